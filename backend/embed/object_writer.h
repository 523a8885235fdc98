// A relocatable ELF object for x86-64, put together from objects that the CPU target made and from constant data. It does what `ld -r` would,
// without a linker: sections are carried over as they are, symbols of the parts become local, and data may hold pointers to any of it.
//
// Nothing in the result is writable after relocation, nothing runs when it is loaded, and it needs no symbol from outside if its parts need none.
#pragma once

#include <elf.h>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace flexc::embed {

class ObjectWriter {
public:
    ObjectWriter();

    /// A place in the object, by number.
    using Symbol = uint32_t;
    struct Pointer {
        size_t offset;  // in the data that holds it; 8-byte aligned
        Symbol target;
    };

    /// Everything that `object` loads. Names of its functions and data get `prefix` in front, except temporary ones (".L"). Gives its symbol
    /// `wanted`. The object must be one of compile_object (FLEX_CHECK).
    Symbol add_object(std::span<const char> object, std::string_view prefix, std::string_view wanted);
    /// Constant bytes; where `pointers` point, eight bytes are replaced by an address.
    Symbol add_data(std::string name, std::span<const std::byte> bytes, size_t alignment, const std::vector<Pointer>& pointers = {});
    /// The text and a terminating zero. Equal texts share their bytes.
    Symbol add_text(std::string_view text);

    /// Only global symbols are seen from outside.
    void make_global(Symbol symbol, std::string name);

    [[nodiscard]] std::vector<char> finish() const;

private:
    struct Section {
        std::string name;
        Elf64_Shdr header{};
        std::vector<char> bytes;
        std::vector<Elf64_Rela> relocations;  // r_info holds numbers of symbols_
    };
    struct Entry {
        std::string name;
        Elf64_Sym symbol{};  // st_shndx: a number of sections_, or SHN_ABS
    };

    size_t add_section(std::string name, uint64_t flags);
    Symbol place(size_t section, std::string name, std::span<const char> bytes, size_t alignment);

    std::vector<Section> sections_;
    std::vector<Entry> symbols_;
    std::vector<std::pair<std::string, Symbol>> texts_;
    size_t plain_, relocated_;  // sections of data without and with pointers
};

}  // namespace flexc::embed
