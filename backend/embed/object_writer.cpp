#include "backend/embed/object_writer.h"

#include <algorithm>
#include <cstring>

#include "diag/check.h"

namespace flexc::embed {

namespace {

template <class T>
T read(std::span<const char> bytes, uint64_t offset) {
    FLEX_CHECK(offset <= bytes.size() && sizeof(T) <= bytes.size() - offset, "an object of the CPU target is whole");
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

std::string_view text_at(std::span<const char> strings, uint64_t offset) {
    FLEX_CHECK(offset < strings.size(), "a name lies in the table of strings");
    return strings.data() + offset;
}

void append(std::vector<char>& out, const void* data, size_t size) {
    const char* bytes = static_cast<const char*>(data);
    out.insert(out.end(), bytes, bytes + size);
}

void align(std::vector<char>& out, size_t alignment) {
    out.resize((out.size() + alignment - 1) / alignment * alignment);
}

/// Names, each once, each ended by a zero. The first is empty.
class Strings {
public:
    Strings() { bytes_.push_back(0); }
    Elf64_Word add(std::string_view text) {
        if (text.empty()) return 0;
        const auto at = static_cast<Elf64_Word>(bytes_.size());
        append(bytes_, text.data(), text.size());
        bytes_.push_back(0);
        return at;
    }
    [[nodiscard]] const std::vector<char>& bytes() const { return bytes_; }

private:
    std::vector<char> bytes_;
};

}  // namespace

ObjectWriter::ObjectWriter() {
    plain_ = add_section(".rodata", SHF_ALLOC);
    relocated_ = add_section(".data.rel.ro", SHF_ALLOC | SHF_WRITE);
}

size_t ObjectWriter::add_section(std::string name, uint64_t flags) {
    Section& section = sections_.emplace_back();
    section.name = std::move(name);
    section.header.sh_type = SHT_PROGBITS;
    section.header.sh_flags = flags;
    section.header.sh_addralign = 1;
    return sections_.size() - 1;
}

ObjectWriter::Symbol ObjectWriter::add_object(std::span<const char> object, std::string_view prefix, std::string_view wanted) {
    const auto header = read<Elf64_Ehdr>(object, 0);
    std::vector<Elf64_Shdr> from;
    for (uint16_t i = 0; i < header.e_shnum; i++) from.push_back(read<Elf64_Shdr>(object, header.e_shoff + i * sizeof(Elf64_Shdr)));
    const auto contents = [&](const Elf64_Shdr& section) {
        FLEX_CHECK(section.sh_offset <= object.size() && section.sh_size <= object.size() - section.sh_offset,
                   "a section lies in the file");
        return object.subspan(section.sh_offset, section.sh_size);
    };
    FLEX_CHECK(header.e_shstrndx < from.size(), "the sections have names");
    const auto section_names = contents(from[header.e_shstrndx]);

    std::vector<size_t> moved(from.size(), SIZE_MAX);  // old number -> number in sections_
    const Elf64_Shdr* table = nullptr;
    for (size_t i = 0; i < from.size(); i++) {
        if (from[i].sh_type == SHT_SYMTAB) table = &from[i];
        if (!(from[i].sh_flags & SHF_ALLOC) || from[i].sh_size == 0) continue;
        FLEX_CHECK(from[i].sh_type == SHT_PROGBITS && !(from[i].sh_flags & (SHF_GROUP | SHF_TLS | SHF_LINK_ORDER)),
                   "only plain sections load");
        moved[i] = add_section(std::string(text_at(section_names, from[i].sh_name)), from[i].sh_flags);
        Section& section = sections_.back();
        section.header.sh_addralign = from[i].sh_addralign;
        section.header.sh_entsize = from[i].sh_entsize;
        const auto bytes = contents(from[i]);
        section.bytes.assign(bytes.begin(), bytes.end());
    }

    FLEX_CHECK(table && table->sh_link < from.size(), "the object has symbols");
    const auto names = contents(from[table->sh_link]);
    const size_t count = table->sh_size / sizeof(Elf64_Sym);
    const auto base = static_cast<Symbol>(symbols_.size());  // of the old symbol 1; the old symbol 0 is nothing
    Symbol result = UINT32_MAX;
    for (size_t i = 1; i < count; i++) {
        Entry& entry = symbols_.emplace_back();
        entry.symbol = read<Elf64_Sym>(object, table->sh_offset + i * sizeof(Elf64_Sym));
        const unsigned type = ELF64_ST_TYPE(entry.symbol.st_info);
        const std::string_view name = text_at(names, entry.symbol.st_name);
        if (name == wanted) result = static_cast<Symbol>(symbols_.size() - 1);
        // Sections are named by their header, and a temporary name may stand more than once.
        if (type == STT_SECTION || type == STT_FILE || name.starts_with(".L"))
            entry.name = name;
        else
            entry.name = std::string(prefix) + std::string(name);
        entry.symbol.st_info = ELF64_ST_INFO(STB_LOCAL, type);
        entry.symbol.st_other = STV_DEFAULT;
        if (entry.symbol.st_shndx == SHN_ABS) continue;
        FLEX_CHECK(entry.symbol.st_shndx != SHN_UNDEF && entry.symbol.st_shndx < from.size(), "the object needs no symbol from outside");
        // What is not loaded is left out; nothing loaded refers to it.
        const size_t section = moved[entry.symbol.st_shndx];
        entry.symbol.st_shndx = section == SIZE_MAX ? Elf64_Section{SHN_ABS} : static_cast<Elf64_Section>(section);
    }

    for (const Elf64_Shdr& section : from) {
        if (section.sh_type != SHT_RELA || section.sh_info >= from.size() || moved[section.sh_info] == SIZE_MAX) continue;
        Section& target = sections_[moved[section.sh_info]];
        for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= section.sh_size; at += sizeof(Elf64_Rela)) {
            auto rela = read<Elf64_Rela>(object, section.sh_offset + at);
            const uint64_t symbol = ELF64_R_SYM(rela.r_info);
            FLEX_CHECK(symbol >= 1 && symbol < count, "a relocation has a symbol");
            rela.r_info = ELF64_R_INFO(base + symbol - 1, ELF64_R_TYPE(rela.r_info));
            target.relocations.push_back(rela);
        }
    }
    FLEX_CHECK(result != UINT32_MAX, "the object defines the symbol that is wanted");
    return result;
}

ObjectWriter::Symbol ObjectWriter::place(size_t index, std::string name, std::span<const char> bytes, size_t alignment) {
    Section& section = sections_[index];
    align(section.bytes, alignment);
    section.header.sh_addralign = std::max<Elf64_Xword>(section.header.sh_addralign, alignment);
    Entry& entry = symbols_.emplace_back();
    entry.name = std::move(name);
    entry.symbol.st_info = ELF64_ST_INFO(STB_LOCAL, STT_OBJECT);
    entry.symbol.st_shndx = static_cast<Elf64_Section>(index);
    entry.symbol.st_value = section.bytes.size();
    entry.symbol.st_size = bytes.size();
    section.bytes.insert(section.bytes.end(), bytes.begin(), bytes.end());
    return static_cast<Symbol>(symbols_.size() - 1);
}

ObjectWriter::Symbol ObjectWriter::add_data(std::string name, std::span<const std::byte> bytes, size_t alignment,
                                            const std::vector<Pointer>& pointers) {
    const auto index = pointers.empty() ? plain_ : relocated_;
    const Symbol symbol = place(index, std::move(name), {reinterpret_cast<const char*>(bytes.data()), bytes.size()}, alignment);
    for (const Pointer& pointer : pointers) {
        FLEX_CHECK(pointer.offset % 8 == 0 && pointer.offset + 8 <= bytes.size() && pointer.target < symbols_.size(),
                   "a pointer lies in its data");
        sections_[index].relocations.push_back(
            {symbols_[symbol].symbol.st_value + pointer.offset, ELF64_R_INFO(Elf64_Xword{pointer.target}, R_X86_64_64), 0});
    }
    return symbol;
}

ObjectWriter::Symbol ObjectWriter::add_text(std::string_view text) {
    for (const auto& [known, symbol] : texts_)
        if (known == text) return symbol;
    std::string bytes(text);
    const Symbol symbol = place(plain_, ".Ltext" + std::to_string(texts_.size()), {bytes.c_str(), bytes.size() + 1}, 1);
    texts_.emplace_back(std::move(bytes), symbol);
    return symbol;
}

void ObjectWriter::make_global(Symbol symbol, std::string name) {
    FLEX_CHECK(symbol < symbols_.size(), "a symbol of this object");
    symbols_[symbol].name = std::move(name);
    symbols_[symbol].symbol.st_info = ELF64_ST_INFO(STB_GLOBAL, ELF64_ST_TYPE(symbols_[symbol].symbol.st_info));
}

std::vector<char> ObjectWriter::finish() const {
    // Numbers in the file: sections from 1 on, each followed by its relocations; local symbols before global ones.
    std::vector<size_t> order;
    size_t locals = 0;
    for (const bool local : {true, false}) {
        for (size_t i = 0; i < symbols_.size(); i++)
            if ((ELF64_ST_BIND(symbols_[i].symbol.st_info) == STB_LOCAL) == local) order.push_back(i);
        if (local) locals = order.size();
    }
    std::vector<uint64_t> symbol_number(symbols_.size());
    for (size_t i = 0; i < order.size(); i++) symbol_number[order[i]] = i + 1;
    std::vector<size_t> section_number(sections_.size());
    size_t next = 1;
    for (size_t i = 0; i < sections_.size(); i++) {
        section_number[i] = next;
        next += sections_[i].relocations.empty() ? 1 : 2;
    }
    const size_t symbol_table = next, string_table = next + 1, stack_note = next + 2, total = next + 3;
    FLEX_CHECK(total < SHN_LORESERVE, "the number of sections is small");

    std::vector<char> out(sizeof(Elf64_Ehdr));
    std::vector<Elf64_Shdr> headers(total);
    Strings strings;
    const auto write = [&](Elf64_Shdr& header, const void* data, size_t size) {
        align(out, std::max<size_t>(header.sh_addralign, 1));
        header.sh_offset = out.size();
        header.sh_size = size;
        append(out, data, size);
    };
    for (size_t i = 0; i < sections_.size(); i++) {
        const Section& section = sections_[i];
        Elf64_Shdr& header = headers[section_number[i]];
        header = section.header;
        header.sh_name = strings.add(section.name);
        write(header, section.bytes.data(), section.bytes.size());
        if (section.relocations.empty()) continue;
        std::vector<Elf64_Rela> relocations = section.relocations;
        for (Elf64_Rela& rela : relocations) rela.r_info = ELF64_R_INFO(symbol_number[ELF64_R_SYM(rela.r_info)], ELF64_R_TYPE(rela.r_info));
        Elf64_Shdr& rela_header = headers[section_number[i] + 1];
        rela_header.sh_name = strings.add(".rela" + section.name);
        rela_header.sh_type = SHT_RELA;
        rela_header.sh_flags = SHF_INFO_LINK;
        rela_header.sh_link = static_cast<Elf64_Word>(symbol_table);
        rela_header.sh_info = static_cast<Elf64_Word>(section_number[i]);
        rela_header.sh_addralign = 8;
        rela_header.sh_entsize = sizeof(Elf64_Rela);
        write(rela_header, relocations.data(), relocations.size() * sizeof(Elf64_Rela));
    }

    std::vector<Elf64_Sym> symbols(1);
    for (const size_t i : order) {
        Elf64_Sym symbol = symbols_[i].symbol;
        symbol.st_name = strings.add(symbols_[i].name);
        if (symbol.st_shndx != SHN_ABS) symbol.st_shndx = static_cast<Elf64_Section>(section_number[symbol.st_shndx]);
        symbols.push_back(symbol);
    }
    Elf64_Shdr& table = headers[symbol_table];
    table.sh_name = strings.add(".symtab");
    table.sh_type = SHT_SYMTAB;
    table.sh_link = static_cast<Elf64_Word>(string_table);
    table.sh_info = static_cast<Elf64_Word>(locals + 1);
    table.sh_addralign = 8;
    table.sh_entsize = sizeof(Elf64_Sym);
    write(table, symbols.data(), symbols.size() * sizeof(Elf64_Sym));

    // An object without this note would make the linker ask for an executable stack.
    Elf64_Shdr& note = headers[stack_note];
    note.sh_name = strings.add(".note.GNU-stack");
    note.sh_type = SHT_PROGBITS;
    note.sh_addralign = 1;
    write(note, nullptr, 0);

    Elf64_Shdr& names = headers[string_table];
    names.sh_name = strings.add(".strtab");
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    write(names, strings.bytes().data(), strings.bytes().size());

    Elf64_Ehdr header{};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_REL;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_ehsize = sizeof(Elf64_Ehdr);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = static_cast<Elf64_Half>(total);
    header.e_shstrndx = static_cast<Elf64_Half>(string_table);
    align(out, 8);
    header.e_shoff = out.size();
    append(out, headers.data(), headers.size() * sizeof(Elf64_Shdr));
    std::memcpy(out.data(), &header, sizeof header);
    return out;
}

}  // namespace flexc::embed
