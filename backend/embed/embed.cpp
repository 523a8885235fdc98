#include "backend/embed/embed.h"

#include <cstddef>
#include <cstring>

#include "backend/embed/object_writer.h"
#include "diag/check.h"
#include "runtime/linked.h"

namespace flexc::embed {

namespace {

using Symbol = ObjectWriter::Symbol;
using Pointers = std::vector<ObjectWriter::Pointer>;

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
    return std::as_bytes(std::span(&value, 1));
}

/// The kernels that a kind of image has.
template <class Image>
std::vector<flex_gpu_kernel Image::*> kernels_of();
template <>
std::vector<flex_gpu_kernel flex_gpu_image::*> kernels_of() {
    return {&flex_gpu_image::forward, &flex_gpu_image::combine, &flex_gpu_image::summarise};
}
template <>
std::vector<flex_gpu_kernel flex_gpu_backward_image::*> kernels_of() {
    using Image = flex_gpu_backward_image;
    return {&Image::summarise, &Image::rows, &Image::queries, &Image::keys, &Image::scale, &Image::finish};
}

/// A copy in which bytes without a value are zero, as the same input is to give the same object.
template <class Image>
std::vector<std::byte> plain_bytes(Image image) {
    image.target = image.code = nullptr;
    image.summary_flags = nullptr;
    for (const auto kernel : kernels_of<Image>()) (image.*kernel).symbol = nullptr;
    std::vector<std::byte> bytes(sizeof image);
    std::memcpy(bytes.data(), &image, sizeof image);
    // Members in front of a pointer may end before it begins.
    const auto clear = [&](size_t from, size_t to) { std::memset(bytes.data() + from, 0, to - from); };
    clear(offsetof(Image, abi_version) + sizeof image.abi_version, offsetof(Image, target));
    clear(offsetof(Image, summary_count) + sizeof image.summary_count, offsetof(Image, summary_flags));
    return bytes;
}

template <class Image>
Symbol add_image(ObjectWriter& writer, const std::string& name, const Image& from) {
    FLEX_CHECK(from.target && from.code, "an image has a target and code");
    Pointers pointers;
    pointers.push_back({offsetof(Image, target), writer.add_text(from.target)});
    if (from.summary_count > 0) {
        const std::span flags(from.summary_flags, static_cast<size_t>(from.summary_count));
        pointers.push_back({offsetof(Image, summary_flags), writer.add_data(name + ".summaries", std::as_bytes(flags), alignof(int32_t))});
    }
    for (const auto kernel : kernels_of<Image>()) {
        if (!(from.*kernel).symbol) continue;
        const auto* const at = reinterpret_cast<const std::byte*>(&(from.*kernel).symbol);
        pointers.push_back({static_cast<size_t>(at - reinterpret_cast<const std::byte*>(&from)), writer.add_text((from.*kernel).symbol)});
    }
    // Code may be a cubin, which holds zeros and wants the alignment of an ELF file.
    std::vector<std::byte> code(from.code_bytes + 1);
    for (size_t i = 0; i < from.code_bytes; i++) code[i] = static_cast<std::byte>(from.code[i]);
    pointers.push_back({offsetof(Image, code), writer.add_data(name + ".code", code, 16)});
    return writer.add_data(name, plain_bytes(from), alignof(Image), pointers);
}

/// A list of pointers to images.
template <class Image>
Symbol add_images(ObjectWriter& writer, const std::string& prefix, const std::vector<Image>& images) {
    Pointers list;
    for (const Image& image : images)
        list.push_back({list.size() * sizeof(void*), add_image(writer, prefix + std::to_string(list.size()), image)});
    const std::vector<std::byte> slots(list.size() * sizeof(void*));
    return writer.add_data(prefix + "s", slots, alignof(void*), list);
}

}  // namespace

std::string table_symbol(const std::string& name) {
    return "flex_linked_" + name;
}

std::vector<char> make_object(const Contents& contents) {
    ObjectWriter writer;
    flex_linked table{};
    Pointers pointers;
    table.version = FLEX_LINKED_VERSION;
    table.fingerprint = contents.fingerprint;
    table.image_count = static_cast<uint32_t>(contents.images.size());
    table.backward_image_count = static_cast<uint32_t>(contents.backward_images.size());
    for (const CpuObject& cpu : contents.cpu) {
        const auto level = static_cast<size_t>(cpu.level);
        FLEX_CHECK(level < FLEX_LINKED_LEVELS, "a level that an object has a place for");
        const Symbol kernel = writer.add_object(cpu.object, "flex_" + contents.name + "." + flex::name(cpu.level) + ".",
                                                "flex_cpu_kernel_" + contents.attention);
        pointers.push_back({offsetof(flex_linked, cpu) + level * sizeof(void*), kernel});
    }
    const std::string prefix = "flex_" + contents.name;
    if (!contents.images.empty())
        pointers.push_back({offsetof(flex_linked, images), add_images(writer, prefix + ".image", contents.images)});
    if (!contents.backward_images.empty())
        pointers.push_back({offsetof(flex_linked, backward_images), add_images(writer, prefix + ".backward", contents.backward_images)});
    writer.make_global(writer.add_data("", bytes_of(table), alignof(flex_linked), pointers), table_symbol(contents.name));
    return writer.finish();
}

}  // namespace flexc::embed
