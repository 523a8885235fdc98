// .safetensors: u64 header length, a JSON object {name: {dtype, shape, data_offsets}}, then the bytes.
#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tools/io/atomic_file.h"
#include "tools/io/formats.h"

namespace flexc::io {
namespace {

using nlohmann::json;

constexpr uint64_t kMaxHeader = uint64_t{100} << 20;  // the limit of the reference implementation

constexpr struct {
    const char* name;
    FileType type;
} kTypes[] = {{"F64", FileType::F64}, {"F32", FileType::F32}, {"F16", FileType::F16},  {"BF16", FileType::BF16}, {"I64", FileType::I64},
              {"I32", FileType::I32}, {"I16", FileType::I16}, {"I8", FileType::I8},    {"U64", FileType::U64},   {"U32", FileType::U32},
              {"U16", FileType::U16}, {"U8", FileType::U8},   {"BOOL", FileType::Bool}};

flex::Status invalid(std::string text) {
    return {flex::Code::InvalidArgument, std::move(text)};
}

/// Null if it is not a non-negative integer that fits.
std::optional<uint64_t> natural(const json& value) {
    if (!value.is_number_unsigned()) return std::nullopt;
    const auto n = value.get<uint64_t>();
    return n <= INT64_MAX ? std::optional(n) : std::nullopt;
}

}  // namespace

flex::Status read_safetensors(const std::filesystem::path& path, Arrays* out, Unreadable* unreadable) {
    std::vector<std::byte> bytes;
    if (flex::Status status = read_bytes(path, &bytes); !status.ok()) return status;
    if (bytes.size() < 8) return invalid("the file is shorter than its header");
    uint64_t length = 0;
    std::memcpy(&length, bytes.data(), 8);
    if (length > kMaxHeader) return invalid("the header claims to be longer than 100 MB");
    if (length > bytes.size() - 8) return invalid("the header is cut off");
    const char* text = reinterpret_cast<const char*>(bytes.data()) + 8;
    // A name that occurs twice would silently hide the first one.
    std::vector<std::string> keys;
    const auto note_keys = [&](int depth, json::parse_event_t event, json& value) {
        if (depth == 1 && event == json::parse_event_t::key) keys.push_back(value.get<std::string>());
        return true;
    };
    const json header = json::parse(text, text + length, note_keys, false);
    if (!header.is_object()) return invalid("the header is no JSON object");
    std::sort(keys.begin(), keys.end());
    if (const auto twice = std::adjacent_find(keys.begin(), keys.end()); twice != keys.end())
        return invalid("two arrays are named `" + *twice + "`");

    const std::span<const std::byte> data = std::span<const std::byte>(bytes).subspan(8 + length);
    std::vector<std::pair<uint64_t, uint64_t>> ranges;
    for (const auto& [name, entry] : header.items()) {
        if (name == "__metadata__") continue;
        const std::string where = "array `" + name + "`: ";
        if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() || !entry.contains("shape") ||
            !entry["shape"].is_array() || !entry.contains("data_offsets") || !entry["data_offsets"].is_array() ||
            entry["data_offsets"].size() != 2)
            return invalid(where + "its entry in the header is damaged");
        const auto begin = natural(entry["data_offsets"][0]), end = natural(entry["data_offsets"][1]);
        if (!begin || !end || *begin > *end || *end > data.size()) return invalid(where + "its bytes lie outside of the file");
        if (*begin != *end) ranges.emplace_back(*begin, *end);
        const auto dtype = entry["dtype"].get<std::string>();
        const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return dtype == t.name; });
        if (found == std::end(kTypes)) {
            const std::string reason = "its element type, `" + dtype + "`, is not one that flexc reads";
            if (!unreadable) return invalid(where + reason);
            (*unreadable)[name] = reason;
            continue;
        }
        Array array;
        array.type = found->type;
        for (const json& extent : entry["shape"]) {
            const auto n = natural(extent);
            if (!n) return invalid(where + "its shape is damaged");
            array.shape.push_back(static_cast<int64_t>(*n));
        }
        const auto need = checked_bytes(array.shape, size_of(array.type));
        if (!need || *need != *end - *begin)
            return invalid(where + "the shape " + shape_text(array.shape) + " of " + dtype + " does not match its " +
                           std::to_string(*end - *begin) + " bytes");
        array.bytes.assign(data.begin() + static_cast<ptrdiff_t>(*begin), data.begin() + static_cast<ptrdiff_t>(*end));
        if (array.type == FileType::Bool)
            for (std::byte& b : array.bytes) b = b == std::byte{0} ? std::byte{0} : std::byte{1};
        (*out)[name] = std::move(array);
    }
    std::sort(ranges.begin(), ranges.end());
    for (size_t i = 1; i < ranges.size(); ++i)
        if (ranges[i].first < ranges[i - 1].second) return invalid("two arrays overlap");
    return {};
}

flex::Status write_safetensors(const std::filesystem::path& path, const Arrays& arrays) {
    // Wide elements first, so that each array is aligned to its element.
    std::vector<const Arrays::value_type*> order;
    for (const auto& entry : arrays) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) {
        return std::pair(size_of(b->second.type), std::string_view(a->first)) <
               std::pair(size_of(a->second.type), std::string_view(b->first));
    });
    json header = json::object();
    size_t at = 0;
    for (const auto* entry : order) {
        const Array& array = entry->second;
        const auto* type = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const auto& t) { return array.type == t.type; });
        header[entry->first] = {{"dtype", type->name}, {"shape", array.shape}, {"data_offsets", {at, at + array.bytes.size()}}};
        at += array.bytes.size();
    }
    std::string text = header.dump(-1, ' ', true, json::error_handler_t::replace);
    text.append((8 - text.size() % 8) % 8, ' ');
    const uint64_t length = text.size();

    AtomicFile file(path);
    if (flex::Status status = file.open(); !status.ok()) return status;
    if (flex::Status status = file.write(std::as_bytes(std::span(&length, 1))); !status.ok()) return status;
    if (flex::Status status = file.write(std::as_bytes(std::span(text))); !status.ok()) return status;
    for (const auto* entry : order)
        if (flex::Status status = file.write(entry->second.bytes); !status.ok()) return status;
    return file.commit();
}

}  // namespace flexc::io
