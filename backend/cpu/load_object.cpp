// The loader of compiled objects: ELF for x86-64 as generate() writes it, which refers to no symbol outside itself. All that is
// left to do is to copy the sections, apply relocations, and make the pages executable: 200 lines and 30 microseconds, where
// LLVM's JIT linkers need a session, threads and several milliseconds. Objects come from a cache on disk, so nothing
// in them is believed: every offset is checked, and what is not understood is an error.
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <optional>

#include "backend/cpu/compile.h"

namespace flexc::cpu {

namespace {

class Pages {
public:
    explicit Pages(size_t size) : size_(size) {
        void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        data_ = p == MAP_FAILED ? nullptr : static_cast<char*>(p);
    }
    ~Pages() {
        if (data_) munmap(data_, size_);
    }
    Pages(Pages&& other) noexcept : data_(other.data_), size_(other.size_) { other.data_ = nullptr; }
    Pages(const Pages&) = delete;
    Pages& operator=(const Pages&) = delete;
    Pages& operator=(Pages&&) = delete;

    [[nodiscard]] char* data() const { return data_; }
    [[nodiscard]] size_t size() const { return size_; }

private:
    char* data_;
    size_t size_;
};

class Loaded final : public LoadedKernel {
public:
    Loaded(Pages pages, const flex_cpu_kernel* table) : pages_(std::move(pages)), table_(table) {}
    [[nodiscard]] const flex_cpu_kernel& table() const override { return *table_; }

private:
    Pages pages_;
    const flex_cpu_kernel* table_;
};

constexpr size_t kMaxImage = size_t{1} << 30;  // PC-relative references reach 2 GiB

class Loader {
public:
    Loader(const std::vector<char>& file, std::string& error) : file_(file), error_(error) {}

    std::unique_ptr<LoadedKernel> load(const std::string& kernel_name) {
        if (!read_sections() || !place_sections()) return nullptr;
        Pages pages(image_size_);
        if (!pages.data()) return fail("no memory for the code"), nullptr;
        image_ = pages.data();
        for (size_t i = 0; i < sections_.size(); i++)
            if (placed(i) && sections_[i].sh_type != SHT_NOBITS)
                std::memcpy(image_ + address_[i], file_.data() + sections_[i].sh_offset, sections_[i].sh_size);
        for (const Elf64_Shdr& section : sections_)
            if (section.sh_type == SHT_RELA && !relocate(section)) return nullptr;
        const flex_cpu_kernel* table = find_table("flex_cpu_kernel_" + kernel_name);
        if (!table) return nullptr;
        if (text_size_ && mprotect(image_, text_size_, PROT_READ | PROT_EXEC) != 0)
            return fail("the system refuses executable memory"), nullptr;
        if (image_size_ > text_size_ && mprotect(image_ + text_size_, image_size_ - text_size_, PROT_READ) != 0)
            return fail("the system refuses read-only memory"), nullptr;
        return std::make_unique<Loaded>(std::move(pages), table);
    }

private:
    bool fail(const char* message) {
        error_ = message;
        return false;
    }

    [[nodiscard]] bool in_file(uint64_t offset, uint64_t size) const { return offset <= file_.size() && size <= file_.size() - offset; }

    template <class T>
    T read(uint64_t offset) const {
        T value;
        std::memcpy(&value, file_.data() + offset, sizeof value);
        return value;
    }

    bool read_sections() {
        if (file_.size() < sizeof(Elf64_Ehdr)) return fail("the object is truncated");
        const auto header = read<Elf64_Ehdr>(0);
        if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
            header.e_ident[EI_DATA] != ELFDATA2LSB || header.e_type != ET_REL || header.e_machine != EM_X86_64 ||
            header.e_shentsize != sizeof(Elf64_Shdr))
            return fail("the file is not an object for x86-64");
        if (!in_file(header.e_shoff, uint64_t{header.e_shnum} * sizeof(Elf64_Shdr))) return fail("the object is truncated");
        for (uint16_t i = 0; i < header.e_shnum; i++) sections_.push_back(read<Elf64_Shdr>(header.e_shoff + i * sizeof(Elf64_Shdr)));
        for (const Elf64_Shdr& section : sections_)
            if (section.sh_type != SHT_NOBITS && !in_file(section.sh_offset, section.sh_size)) return fail("the object is truncated");
        for (size_t i = 0; i < sections_.size(); i++) {
            if (sections_[i].sh_type != SHT_SYMTAB) continue;
            if (symtab_) return fail("the object has two symbol tables");
            symtab_ = i;
        }
        if (!symtab_ || symbols().sh_link >= sections_.size()) return fail("the object has no symbol table");
        return true;
    }

    [[nodiscard]] bool placed(size_t i) const { return (sections_[i].sh_flags & SHF_ALLOC) && sections_[i].sh_size > 0; }

    // Code first, then, on pages of its own, everything else; both become read-only.
    bool place_sections() {
        const size_t page = size_t(sysconf(_SC_PAGESIZE));
        address_.assign(sections_.size(), 0);
        size_t end = 0;
        for (const bool code : {true, false}) {
            for (size_t i = 0; i < sections_.size(); i++) {
                const Elf64_Shdr& s = sections_[i];
                if (!placed(i) || bool(s.sh_flags & SHF_EXECINSTR) != code) continue;
                if (s.sh_flags & SHF_TLS) return fail("the object has thread-local data");
                const uint64_t align = s.sh_addralign ? s.sh_addralign : 1;
                if ((align & (align - 1)) != 0 || align > page) return fail("a section of the object has an impossible alignment");
                end = (end + align - 1) & ~(align - 1);
                if (s.sh_size > kMaxImage - end) return fail("the object is too large");
                address_[i] = end;
                end += s.sh_size;
            }
            end = (end + page - 1) & ~(page - 1);
            if (code) text_size_ = end;
        }
        image_size_ = end;
        return image_size_ > 0 || fail("the object is empty");
    }

    [[nodiscard]] const Elf64_Shdr& symbols() const { return sections_[*symtab_]; }
    [[nodiscard]] uint64_t symbol_count() const { return symbols().sh_size / sizeof(Elf64_Sym); }
    [[nodiscard]] Elf64_Sym symbol(uint64_t i) const { return read<Elf64_Sym>(symbols().sh_offset + i * sizeof(Elf64_Sym)); }

    /// Where a symbol lies in the image, if it is defined in a section that was placed.
    [[nodiscard]] std::optional<uint64_t> offset_of(const Elf64_Sym& s) const {
        if (s.st_shndx == SHN_UNDEF || s.st_shndx >= sections_.size() || !placed(s.st_shndx)) return std::nullopt;
        if (s.st_value > sections_[s.st_shndx].sh_size) return std::nullopt;
        return address_[s.st_shndx] + s.st_value;
    }

    bool relocate(const Elf64_Shdr& section) {
        if (section.sh_info >= sections_.size()) return fail("a relocation of the object has no section");
        if (!placed(section.sh_info)) return true;  // debug information and the like
        const Elf64_Shdr& target = sections_[section.sh_info];
        for (uint64_t at = 0; at + sizeof(Elf64_Rela) <= section.sh_size; at += sizeof(Elf64_Rela)) {
            const auto rela = read<Elf64_Rela>(section.sh_offset + at);
            if (ELF64_R_SYM(rela.r_info) >= symbol_count()) return fail("a relocation of the object has no symbol");
            const auto offset = offset_of(symbol(ELF64_R_SYM(rela.r_info)));
            if (!offset) return fail("the object needs a symbol from outside");
            const uint32_t type = ELF64_R_TYPE(rela.r_info);
            const size_t size = type == R_X86_64_64 || type == R_X86_64_PC64 ? 8 : 4;
            if (rela.r_offset > target.sh_size || size > target.sh_size - rela.r_offset)
                return fail("a relocation of the object is out of range");
            char* place = image_ + address_[section.sh_info] + rela.r_offset;
            const uint64_t value = reinterpret_cast<uint64_t>(image_) + *offset + uint64_t(rela.r_addend);
            const uint64_t relative = value - reinterpret_cast<uint64_t>(place);
            switch (type) {
                case R_X86_64_64: std::memcpy(place, &value, 8); break;
                case R_X86_64_PC64: std::memcpy(place, &relative, 8); break;
                case R_X86_64_PC32:
                case R_X86_64_PLT32: {
                    const auto narrow = int32_t(relative);
                    if (int64_t(relative) != narrow) return fail("a relocation of the object does not reach its target");
                    std::memcpy(place, &narrow, 4);
                    break;
                }
                default: return fail("the object has a relocation of an unknown type");
            }
        }
        return true;
    }

    const flex_cpu_kernel* find_table(const std::string& name) {
        const Elf64_Shdr& strings = sections_[symbols().sh_link];
        for (uint64_t i = 0; i < symbol_count(); i++) {
            const Elf64_Sym s = symbol(i);
            if (s.st_name >= strings.sh_size || strings.sh_size - s.st_name < name.size() + 1) continue;
            const char* text = file_.data() + strings.sh_offset + s.st_name;
            if (std::memcmp(text, name.c_str(), name.size() + 1) != 0) continue;
            const auto offset = offset_of(s);
            if (!offset || *offset % alignof(flex_cpu_kernel) != 0 || *offset + sizeof(flex_cpu_kernel) > image_size_) break;
            const auto* table = reinterpret_cast<const flex_cpu_kernel*>(image_ + *offset);
            if (table->abi_version != FLEX_ABI_VERSION) return fail("the object was made for another version of the runtime"), nullptr;
            const auto in_text = [&](auto* function) {
                return reinterpret_cast<uint64_t>(function) - reinterpret_cast<uint64_t>(image_) < text_size_;
            };
            const bool both = table->backward && table->scale_backward, neither = !table->backward && !table->scale_backward;
            if (!neither && !(both && in_text(table->backward) && in_text(table->scale_backward))) break;
            if (!in_text(table->scale) || !in_text(table->tile_state) || !in_text(table->kv_range) || !in_text(table->q_range) ||
                !in_text(table->softmax) || !in_text(table->mask_row) || !in_text(table->score_row) || !in_text(table->summary_flags) ||
                !in_text(table->summary_values))
                break;
            return table;
        }
        fail("the object does not define the kernel");
        return nullptr;
    }

    const std::vector<char>& file_;
    std::string& error_;
    std::vector<Elf64_Shdr> sections_;
    std::optional<size_t> symtab_;
    std::vector<size_t> address_;  // by section, within the image
    char* image_ = nullptr;
    size_t text_size_ = 0, image_size_ = 0;
};

}  // namespace

std::unique_ptr<LoadedKernel> load_object(const std::string& kernel_name, std::vector<char> object, std::string* error) {
    std::string message;
    auto kernel = Loader(object, message).load(kernel_name);
    if (!kernel && error) *error = message;
    return kernel;
}

}  // namespace flexc::cpu
