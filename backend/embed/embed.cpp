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

void kernel_pointers(ObjectWriter& writer, const flex_gpu_kernel& kernel, size_t offset, Pointers& pointers) {
    if (kernel.symbol) pointers.push_back({offset + offsetof(flex_gpu_kernel, symbol), writer.add_text(kernel.symbol)});
}

Symbol add_image(ObjectWriter& writer, const std::string& name, const flex_gpu_image& from) {
    FLEX_CHECK(from.target && from.code, "an image has a target and code");
    Pointers pointers;
    pointers.push_back({offsetof(flex_gpu_image, target), writer.add_text(from.target)});
    if (from.summary_count > 0) {
        const std::span flags(from.summary_flags, static_cast<size_t>(from.summary_count));
        pointers.push_back(
            {offsetof(flex_gpu_image, summary_flags), writer.add_data(name + ".summaries", std::as_bytes(flags), alignof(int32_t))});
    }
    kernel_pointers(writer, from.forward, offsetof(flex_gpu_image, forward), pointers);
    kernel_pointers(writer, from.combine, offsetof(flex_gpu_image, combine), pointers);
    kernel_pointers(writer, from.summarise, offsetof(flex_gpu_image, summarise), pointers);
    // Code may be a cubin, which holds zeros and wants the alignment of an ELF file.
    std::vector<std::byte> code(from.code_bytes + 1);
    for (size_t i = 0; i < from.code_bytes; i++) code[i] = static_cast<std::byte>(from.code[i]);
    pointers.push_back({offsetof(flex_gpu_image, code), writer.add_data(name + ".code", code, 16)});

    flex_gpu_image image = from;
    image.target = image.code = nullptr;
    image.summary_flags = nullptr;
    image.forward.symbol = image.combine.symbol = image.summarise.symbol = nullptr;
    // Padding has no value, and the same input is to give the same object.
    std::vector<std::byte> bytes(sizeof image);
    std::memcpy(bytes.data(), &image, sizeof image);
    constexpr size_t kPadding = offsetof(flex_gpu_image, abi_version) + sizeof image.abi_version;
    std::memset(bytes.data() + kPadding, 0, offsetof(flex_gpu_image, target) - kPadding);
    return writer.add_data(name, bytes, alignof(flex_gpu_image), pointers);
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
    for (const CpuObject& cpu : contents.cpu) {
        const auto level = static_cast<size_t>(cpu.level);
        FLEX_CHECK(level < FLEX_LINKED_LEVELS, "a level that an object has a place for");
        const Symbol kernel = writer.add_object(cpu.object, "flex_" + contents.name + "." + flex::name(cpu.level) + ".",
                                                "flex_cpu_kernel_" + contents.attention);
        pointers.push_back({offsetof(flex_linked, cpu) + level * sizeof(void*), kernel});
    }
    if (!contents.images.empty()) {
        Pointers list;
        for (const flex_gpu_image& image : contents.images)
            list.push_back(
                {list.size() * sizeof(void*), add_image(writer, "flex_" + contents.name + ".image" + std::to_string(list.size()), image)});
        const std::vector<std::byte> slots(list.size() * sizeof(void*));
        pointers.push_back(
            {offsetof(flex_linked, images), writer.add_data("flex_" + contents.name + ".images", slots, alignof(void*), list)});
    }
    writer.make_global(writer.add_data("", bytes_of(table), alignof(flex_linked), pointers), table_symbol(contents.name));
    return writer.finish();
}

}  // namespace flexc::embed
