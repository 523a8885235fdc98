// The gallery's masks: inputs, and the definition of each in C++.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <memory>
#include <set>
#include <utility>

#include "tests/numerics/case.h"

namespace numerics {

namespace {

using flex::DType;
using Pair = std::pair<int, int>;

Case mask_case(Shape shape, MaskFn mask, std::vector<Captured> captured = {}) {
    Case c;
    c.shape = shape;
    c.captured = std::move(captured);
    c.variant.mask = std::move(mask);
    return c;
}

// Odd sizes, GQA in one, Q != K in one; head dimensions that are no multiple of a vector.
Shape square(int which, int n) {
    return which == 0 ? Shape{.b = 2, .h = 2, .hkv = 2, .q = n, .k = n, .d = 16, .dv = 16, .kvb = 2}
                      : Shape{.b = 1, .h = 6, .hkv = 2, .q = n, .k = n, .d = 24, .dv = 40, .kvb = 1};
}
Shape general(int which) {
    return which == 0 ? Shape{.b = 2, .h = 2, .hkv = 2, .q = 67, .k = 67, .d = 16, .dv = 16, .kvb = 2}
                      : Shape{.b = 2, .h = 4, .hkv = 2, .q = 130, .k = 201, .d = 40, .dv = 24, .kvb = 1};
}

/// Documents of random lengths (some empty) that fill n tokens: for each token its document and its place in it.
struct Packing {
    std::vector<int> doc, place, start;  // start has one entry more than there are documents
    [[nodiscard]] int documents() const { return static_cast<int>(start.size()) - 1; }
};
Packing pack_documents(Random& random, int n, int longest) {
    Packing p;
    while (static_cast<int>(p.doc.size()) < n) {
        const int document = static_cast<int>(p.start.size());
        p.start.push_back(static_cast<int>(p.doc.size()));
        const int length = std::min(random.integer(0, longest), n - static_cast<int>(p.doc.size()));
        for (int i = 0; i < length; ++i) {
            p.doc.push_back(document);
            p.place.push_back(i);
        }
    }
    p.start.push_back(n);
    return p;
}

std::vector<int> random_bits(Random& random, int64_t n, double probability) {
    std::vector<int> bits(static_cast<size_t>(n));
    for (int& bit : bits) bit = random.chance(probability) ? 1 : 0;
    return bits;
}

/// The cells of one dimension that a cell sees in neighbourhood attention: `kernel` of them, shifted inwards at the border.
bool sees(int from, int to, int size, int kernel) {
    int first = from - kernel / 2;
    if (first + kernel / 2 * 2 > size - 1) first = size - 1 - kernel / 2 * 2;
    if (first < 0) first = 0;
    return to >= first && to <= first + kernel / 2 * 2;
}

Case natten(int which, const std::function<Pair(int)>& place, int n, int width, int height, int kernel_w, int kernel_h) {
    std::vector<Pair> cell(static_cast<size_t>(n));
    for (int i = 0; i < n; ++i) cell[i] = place(i);
    return mask_case(square(which, n),
                     [=](int, int, int q, int k) {
                         return sees(cell[q].first, cell[k].first, width, kernel_w) &&
                                sees(cell[q].second, cell[k].second, height, kernel_h);
                     },
                     {scalar("canvas_w", width), scalar("canvas_h", height), scalar("kernel_w", kernel_w), scalar("kernel_h", kernel_h)});
}

/// The tiles that a tile sees in sliding tile attention: n consecutive ones with itself at place n / 2, shifted inwards at the border.
bool sees_tile(int from, int to, int tiles, int n) {
    const int first = std::max(0, std::min(from - n / 2, tiles - n));
    return to >= first && to < first + n;
}

/// Cells of a canvas in tile order: for each token the coordinates of its tile.
std::vector<std::array<int, 3>> tile_order(std::array<int, 3> canvas, std::array<int, 3> tile) {
    std::vector<std::array<int, 3>> order;
    for (int t = 0; t < canvas[0] / tile[0]; ++t)
        for (int y = 0; y < canvas[1] / tile[1]; ++y)
            for (int x = 0; x < canvas[2] / tile[2]; ++x)
                order.insert(order.end(), static_cast<size_t>(tile[0] * tile[1] * tile[2]), {t, y, x});
    return order;
}

Case sta(int which, std::array<int, 3> canvas, std::array<int, 3> kernel, std::array<int, 3> tile, int text, int beyond, bool three) {
    const auto order = tile_order(canvas, tile);
    const int vision = static_cast<int>(order.size());
    const auto mask = [=](int, int, int q, int k) {
        if (k >= vision + text) return false;
        if (q >= vision || k >= vision) return true;
        bool all = true;
        for (size_t i = 0; i < 3; ++i) all = all && sees_tile(order[q][i], order[k][i], canvas[i] / tile[i], kernel[i] / tile[i]);
        return all;
    };
    std::vector<Captured> captured;
    const std::array<std::string, 3> axis = {"t", "h", "w"};
    for (size_t i = three ? 0 : 1; i < 3; ++i) {
        captured.push_back(scalar("canvas_" + axis[i], canvas[i]));
        captured.push_back(scalar("kernel_" + axis[i], kernel[i]));
        captured.push_back(scalar("tile_" + axis[i], tile[i]));
    }
    captured.push_back(scalar("text_len", text));
    return mask_case(square(which, vision + text + beyond), mask, captured);
}

Case causal(Random&, int which) {
    return mask_case(general(which), [](int, int, int q, int k) { return k <= q; });
}

Case sliding_window(Random&, int which) {
    const int window = which == 0 ? 5 : 40;
    return mask_case(general(which), [=](int, int, int q, int k) { return k <= q && k >= q - window; }, {scalar("window", window)});
}

Case dilated_window(Random&, int which) {
    const int window = which == 0 ? 12 : 50, dilation = which == 0 ? 3 : 7;
    return mask_case(general(which),
                     [=](int, int, int q, int k) {
                         for (int j = 0; j <= window; j += dilation)
                             if (k == q + j || k == q - j) return true;
                         return false;
                     },
                     {scalar("window", window), scalar("dilation", dilation)});
}

/// Global tokens and a window of `reach` to each side. g covers the longer of Q and K.
Case global_window(Random& random, int which, int window, int reach) {
    const Shape s = general(which);
    const int n = std::max(s.q, s.k);
    const auto g = random_bits(random, n, 0.04);
    return mask_case(s, [=](int, int, int q, int k) { return g[q] || g[k] || (k >= q - reach && k <= q + reach); },
                     {tensor("g", DType::Bool, {n}, g), scalar("window", window)});
}
Case global_sliding_window(Random& random, int which) {
    const int window = which == 0 ? 3 : 17;
    return global_window(random, which, window, window);
}
Case longformer(Random& random, int which) {
    const int window = which == 0 ? 7 : 32;
    return global_window(random, which, window, window / 2);
}

Case prefix_lm(Random&, int which) {
    const int prefix = which == 0 ? 9 : 70;
    return mask_case(general(which), [=](int, int, int q, int k) { return k <= std::max(q, prefix - 1); }, {scalar("prefix", prefix)});
}

Case prefix_lm_batch(Random& random, int which) {
    const Shape s = general(which);
    std::vector<int> prefix;
    for (int b = 0; b < s.b; ++b) prefix.push_back(random.integer(0, s.k));
    return mask_case(s, [=](int b, int, int q, int k) { return k <= std::max(q, prefix[b] - 1); },
                     {tensor("prefix", DType::I32, {s.b}, prefix)});
}

Case document(Random& random, int which) {
    const Shape s = square(which, which == 0 ? 61 : 150);
    const Packing p = pack_documents(random, s.q, which == 0 ? 20 : 70);
    return mask_case(s, [=](int, int, int q, int k) { return p.doc[q] == p.doc[k] && p.place[k] <= p.place[q]; },
                     {tensor("doc", DType::I32, {s.q}, p.doc), tensor("off", DType::I32, {static_cast<int64_t>(p.start.size())}, p.start)});
}

Case shared_prefix(Random& random, int which) {
    const Shape s = square(which, which == 0 ? 61 : 150);
    const Packing p = pack_documents(random, s.q, which == 0 ? 15 : 40);
    // Groups of documents: the first of each group is the prompt of the others.
    std::vector<int> prompt;
    for (int d = 0; d < p.documents(); ++d) prompt.push_back(d == 0 || random.chance(0.3) ? d : prompt.back());
    return mask_case(s,
                     [=](int, int, int q, int k) {
                         const bool own = p.doc[k] == p.doc[q] && k <= q;
                         const bool of_prompt = prompt[p.doc[q]] != p.doc[q] && p.doc[k] == prompt[p.doc[q]];
                         return own || of_prompt;
                     },
                     {tensor("doc", DType::I32, {s.q}, p.doc), tensor("off", DType::I32, {static_cast<int64_t>(p.start.size())}, p.start),
                      tensor("pre", DType::I32, {p.documents()}, prompt)});
}

Case batchify(Random&, int which) {
    const int n = which == 0 ? 10 : 33;
    return mask_case(general(which),
                     [=](int, int, int q, int k) {
                         const int first = q - q % n;
                         return k >= first && k <= q;
                     },
                     {scalar("n", n)});
}

Case block_diffusion(Random&, int which) {
    const int length = which == 0 ? 30 : 71, block = which == 0 ? 4 : 16;
    std::vector<int> noised, number;
    for (int copy = 0; copy < 2; ++copy)
        for (int i = 0; i < length; ++i) {
            noised.push_back(copy == 0);
            number.push_back(i / block);
        }
    return mask_case(square(which, 2 * length),
                     [=](int, int, int q, int k) {
                         if (noised[k]) return noised[q] && number[q] == number[k];
                         return noised[q] ? number[k] < number[q] : number[k] <= number[q];
                     },
                     {scalar("seq_len", length), scalar("block_size", block)});
}

Case flamingo(Random& random, int which) {
    const Shape s = general(which);
    const int images = which == 0 ? 3 : 8;
    std::vector<int> interval, image;
    for (int i = 0; i < images; ++i) {
        const int a = random.integer(0, s.q), b = random.integer(0, s.q);
        interval.insert(interval.end(), {std::min(a, b), std::max(a, b)});
    }
    for (int k = 0; k < s.k; ++k) image.push_back(k * images / s.k);
    return mask_case(s, [=](int, int, int q, int k) { return q >= interval[2 * image[k]] && q < interval[2 * image[k] + 1]; },
                     {tensor("iv", DType::I32, {images, 2}, interval), tensor("img", DType::I32, {s.k}, image)});
}

Case tree_decode(Random& random, int which) {
    const int nodes = which == 0 ? 13 : 64, prefix = which == 0 ? 20 : 97, beyond = which == 0 ? 0 : 5;
    std::vector<int> parent, ancestor(static_cast<size_t>(nodes * nodes), 0);
    for (int i = 0; i < nodes; ++i) parent.push_back(i == 0 ? -1 : random.integer(std::max(0, i - 5), i - 1));
    for (int i = 0; i < nodes; ++i)
        for (int a = i; a >= 0; a = parent[a]) ancestor[i * nodes + a] = 1;
    const auto is_ancestor = [parent](int node, int a) {
        while (node > a) node = parent[node];
        return node == a;
    };
    Shape s = square(which, nodes);
    s.k = prefix + nodes + beyond;
    return mask_case(s, [=](int, int, int q, int k) { return k < prefix || (k < prefix + nodes && is_ancestor(q, k - prefix)); },
                     {tensor("anc", DType::Bool, {nodes, nodes}, ancestor), scalar("prefix", prefix)});
}

Case tree_train(Random&, int which) {
    const int block = which == 0 ? 4 : 7, blocks = which == 0 ? 5 : 15, prefix = which == 0 ? 11 : 66;
    Shape s = square(which, block * blocks);
    s.k = prefix + block * blocks;
    std::set<Pair> seen;
    for (int i = 0; i < blocks; ++i)
        for (int a = 0; a < block; ++a)
            for (int c = 0; c <= a; ++c) seen.insert({i * block + a, prefix + i * block + c});
    return mask_case(s, [=](int, int, int q, int k) { return k < prefix || seen.count({q, k}) != 0; },
                     {scalar("prefix", prefix), scalar("block_size", block)});
}

Case natten_2d(Random&, int which) {
    const int side = which == 0 ? 8 : 13;
    // The gallery's x counts rows; on a square canvas it makes no difference which is clamped by which side.
    return natten(which, [=](int i) { return Pair{i / side, i % side}; }, side * side, side, side, which == 0 ? 3 : 7, which == 0 ? 5 : 4);
}

Case natten_tiled(Random&, int which) {
    const int width = which == 0 ? 8 : 15, height = which == 0 ? 6 : 8, tile_w = which == 0 ? 4 : 5, tile_h = which == 0 ? 3 : 2;
    std::vector<Pair> cell;
    for (int ty = 0; ty < height; ty += tile_h)
        for (int tx = 0; tx < width; tx += tile_w)
            for (int y = ty; y < ty + tile_h; ++y)
                for (int x = tx; x < tx + tile_w; ++x) cell.emplace_back(x, y);
    Case c = natten(which, [=](int i) { return cell[i]; }, width * height, width, height, which == 0 ? 3 : 7, which == 0 ? 3 : 5);
    c.captured.push_back(scalar("tile_w", tile_w));
    c.captured.push_back(scalar("tile_h", tile_h));
    return c;
}

Case natten_morton(Random&, int which) {
    const int side = which == 0 ? 8 : 16;
    std::vector<Pair> cell(static_cast<size_t>(side * side));
    for (int y = 0; y < side; ++y)
        for (int x = 0; x < side; ++x) {
            int code = 0;
            for (int bit = 0; bit < 16; ++bit) code |= (x >> bit & 1) << 2 * bit | (y >> bit & 1) << (2 * bit + 1);
            cell[code] = {x, y};
        }
    return natten(which, [=](int i) { return cell[i]; }, side * side, side, side, which == 0 ? 3 : 5, which == 0 ? 5 : 7);
}

Case sta_2d(Random&, int which) {
    return which == 0 ? sta(which, {1, 8, 12}, {1, 4, 8}, {1, 2, 4}, 0, 0, false)
                      : sta(which, {1, 9, 16}, {1, 9, 8}, {1, 3, 4}, 11, 4, false);
}

Case sta_3d(Random&, int which) {
    return which == 0 ? sta(which, {4, 4, 4}, {2, 4, 2}, {2, 2, 2}, 5, 0, true) : sta(which, {6, 4, 8}, {6, 2, 6}, {2, 2, 2}, 7, 2, true);
}

Case svg_spatial(Random&, int which) {
    const int prompt = which == 0 ? 3 : 22, frames = which == 0 ? 5 : 7, per_frame = which == 0 ? 13 : 19, width = 2,
              round = which == 0 ? 4 : 16;
    const bool first_frame = which == 1;
    int band = 0;
    while (band + round <= width * per_frame) band += round;
    return mask_case(
        square(which, prompt + frames * per_frame),
        [=](int, int, int q, int k) { return q < prompt || k < prompt + (first_frame ? per_frame : 0) || (k - q < band && q - k < band); },
        {scalar("prompt_length", prompt), scalar("token_per_frame", per_frame), scalar("width", width), scalar("round_width", round),
         scalar_bool("attn_sink", first_frame)});
}

Case svg_temporal(Random&, int which) {
    const int prompt = which == 0 ? 3 : 22, frames = which == 0 ? 5 : 7, per_frame = which == 0 ? 13 : 19, width = which == 0 ? 2 : 3;
    std::vector<int> place(static_cast<size_t>(prompt), -1);
    for (int f = 0; f < frames; ++f)
        for (int i = 0; i < per_frame; ++i) place.push_back(i);
    return mask_case(
        square(which, static_cast<int>(place.size())),
        [=](int, int, int q, int k) { return q < prompt || k < prompt || std::abs(place[q] - place[k]) < width * per_frame / frames; },
        {scalar("prompt_length", prompt), scalar("num_frames", frames), scalar("token_per_frame", per_frame), scalar("width", width)});
}

Case vsa_topk(Random& random, int which) {
    const int tile = which == 0 ? 8 : 24, q_tiles = which == 0 ? 5 : 6, k_tiles = which == 0 ? 6 : 8, chosen = which == 0 ? 2 : 3;
    Shape s = square(which, q_tiles * tile);
    s.k = k_tiles * tile;
    std::vector<int> topk, size;
    std::set<std::array<int, 4>> routes;  // b, h, query tile, KV tile
    for (int b = 0; b < s.b; ++b)
        for (int h = 0; h < s.h; ++h)
            for (int t = 0; t < q_tiles; ++t)
                for (int j = 0; j < chosen; ++j) {
                    topk.push_back(random.integer(0, k_tiles - 1));
                    routes.insert({b, h, t, topk.back()});
                }
    for (int t = 0; t < k_tiles; ++t) size.push_back(random.integer(0, tile));
    return mask_case(
        s,
        [=](int b, int h, int q, int k) { return k - k / tile * tile < size[k / tile] && routes.count({b, h, q / tile, k / tile}) != 0; },
        {tensor("topk", DType::I32, {s.b, s.h, q_tiles, chosen}, topk), tensor("size", DType::I32, {k_tiles}, size), scalar("tile", tile)});
}

Case vsa_block_map(Random& random, int which) {
    const int tile = which == 0 ? 8 : 24;
    const Shape s = general(which);
    const int q_tiles = (s.q + tile - 1) / tile, k_tiles = (s.k + tile - 1) / tile;
    const auto map = random_bits(random, static_cast<int64_t>(s.b) * s.h * q_tiles * k_tiles, 0.3);
    return mask_case(s, [=](int b, int h, int q, int k) { return map[((b * s.h + h) * q_tiles + q / tile) * k_tiles + k / tile] != 0; },
                     {tensor("map", DType::Bool, {s.b, s.h, q_tiles, k_tiles}, map), scalar("tile", tile)});
}

Case padding(Random& random, int which) {
    const Shape s = general(which);
    std::vector<int> length;
    for (int b = 0; b < s.b; ++b) length.push_back(b == 1 && which == 0 ? 0 : random.integer(1, s.k));
    return mask_case(s, [=](int b, int, int, int k) { return length[b] > k; }, {tensor("len", DType::I32, {s.b}, length)});
}

Case bigbird(Random& random, int which) {
    const int block = which == 0 ? 6 : 20, drawn = 2, global_blocks = which == 0 ? 1 : 2, window = 1;
    const Shape s = general(which);
    const int q_blocks = (s.q + block - 1) / block, k_blocks = (s.k + block - 1) / block;
    std::vector<int> table;
    std::set<Pair> seen;
    for (int r = 0; r < q_blocks; ++r) {
        for (int j = 0; j < drawn; ++j) {
            table.push_back(random.integer(0, k_blocks - 1));
            seen.insert({r, table.back()});
        }
        for (int c = 0; c < k_blocks; ++c)
            if (r < global_blocks || c < global_blocks || (c >= r - window && c <= r + window)) seen.insert({r, c});
    }
    return mask_case(s, [=](int, int, int q, int k) { return seen.count({q / block, k / block}) != 0; },
                     {tensor("table", DType::I32, {q_blocks, drawn}, table), scalar("block_size", block),
                      scalar("global_blocks", global_blocks), scalar("window", window)});
}

}  // namespace

std::vector<GalleryTest> mask_tests() {
    return {{"causal", causal},
            {"sliding_window", sliding_window},
            {"dilated_window", dilated_window},
            {"global_sliding_window", global_sliding_window},
            {"prefix_lm", prefix_lm},
            {"prefix_lm_batch", prefix_lm_batch},
            {"document", document},
            {"packed_causal_document", document},
            {"shared_prefix", shared_prefix},
            {"batchify", batchify},
            {"block_diffusion", block_diffusion},
            {"flamingo", flamingo},
            {"tree_decode", tree_decode},
            {"tree_train", tree_train},
            {"natten_2d", natten_2d},
            {"natten_tiled", natten_tiled},
            {"natten_morton", natten_morton},
            {"sta_2d", sta_2d},
            {"sta_3d", sta_3d},
            {"svg_spatial", svg_spatial},
            {"svg_temporal", svg_temporal},
            {"vsa_topk", vsa_topk},
            {"vsa_block_map", vsa_block_map},
            {"padding", padding},
            {"bigbird", bigbird},
            {"longformer", longformer}};
}

}  // namespace numerics
