// Modules and libraries: loaded PTX, the functions and variables in it. A library belongs to no context: each context that asks gets a module of its own.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <set>

#include "emulator/driver/call.h"

using namespace flexemu;
using namespace flexemu::driver;

namespace {

/// The buffers for messages among the options of a load.
class Logs {
public:
    Logs(unsigned count, const CUjit_option* options, void** values) : count_(count), options_(options), values_(values) {}
    [[nodiscard]] bool valid() const { return count_ == 0 || (options_ && values_); }
    void write(const std::string& information, const std::string& error) {
        put(CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, information);
        put(CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, error);
        for (unsigned i = 0; i < count_; ++i)
            if (options_[i] == CU_JIT_WALL_TIME) values_[i] = nullptr;
    }

private:
    // The size option gives the room and takes the number of bytes written.
    void put(CUjit_option buffer_option, CUjit_option size_option, const std::string& text) {
        char* buffer = nullptr;
        void** size_slot = nullptr;
        for (unsigned i = 0; i < count_; ++i) {
            if (options_[i] == buffer_option) buffer = static_cast<char*>(values_[i]);
            if (options_[i] == size_option) size_slot = &values_[i];
        }
        if (!size_slot) return;
        size_t room = reinterpret_cast<uintptr_t>(*size_slot) & UINT32_MAX;
        if (!buffer || room == 0) return;
        size_t bytes = std::min(text.size(), room - 1);
        std::memcpy(buffer, text.data(), bytes);
        buffer[bytes] = '\0';
        *size_slot = reinterpret_cast<void*>(text.empty() ? 0 : bytes + 1);
    }

    unsigned count_;
    const CUjit_option* options_;
    void** values_;
};

std::set<std::string> kernels_of(const LoadedModule& loaded) {
    std::set<std::string> names;
    for (const ptx::Function& function : loaded.ptx().functions)
        if (function.is_kernel && !function.is_declaration) names.insert(function.name);
    return names;
}

bool read_file(const std::string& path, std::string* out) {
    std::ifstream file(path, std::ios::binary);
    if (!file) return false;
    out->assign(std::istreambuf_iterator<char>(file), {});
    return true;
}

/// FLEXEMU_DUMP and FLEXEMU_REPLACE: what was loaded goes to a file, or another text with the same kernels comes in its place.
bool exchange(Driver& driver, std::string* ptx, std::unique_ptr<LoadedModule>* loaded, std::string* error) {
    const Settings& settings = driver.settings;
    if (!settings.dump.empty()) {
        std::string path = settings.dump + "/module_" + std::to_string(driver.loads++) + ".ptx";
        std::ofstream file(path, std::ios::binary);
        file << *ptx;
        if (!file) std::fprintf(stderr, "flexemu: cannot write %s\n", path.c_str());
    }
    if (settings.replace.empty()) return true;
    std::string text;
    if (!read_file(settings.replace, &text)) {
        *error = "cannot read " + settings.replace;
        return false;
    }
    std::unique_ptr<LoadedModule> other = driver.device->load(text, error);
    if (!other) return false;
    if (kernels_of(*other) == kernels_of(**loaded)) {
        *ptx = std::move(text);
        *loaded = std::move(other);
    }
    return true;
}

CUresult load(Driver& driver, const void* image, Logs logs, std::string* ptx, std::unique_ptr<LoadedModule>* out) {
    if (!image || !logs.valid()) return CUDA_ERROR_INVALID_VALUE;
    std::string error;
    CUresult result = extract_ptx(image, driver.settings.device.compute_capability, ptx, &error);
    if (result == CUDA_SUCCESS) {
        *out = driver.device->load(*ptx, &error);
        if (*out && !exchange(driver, ptx, out, &error)) out->reset();
        if (!*out) {
            result = CUDA_ERROR_INVALID_PTX;
            error = "ptx " + error;
        }
    }
    if (result != CUDA_SUCCESS && driver.settings.trace) std::fprintf(stderr, "flexemu: load: %s\n", error.c_str());
    logs.write("", error);
    return result;
}

CUresult load_module(CUmodule* out, const void* image, unsigned count, CUjit_option* options, void** values) {
    FLEXEMU_CALL(Context);
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    auto module = std::make_unique<Module>();
    std::string ptx;
    if (CUresult error = load(driver, image, Logs(count, options, values), &ptx, &module->loaded)) return error;
    module->context = &call.context();
    *out = handle_of<CUmodule>(driver.modules.add(std::move(module)));
    return CUDA_SUCCESS;
}

CUresult load_library(CUlibrary* out, const void* image, CUjit_option* options, void** values, unsigned count,
                      const CUlibraryOption* library_options, unsigned library_count) {
    FLEXEMU_CALL(Driver);
    if (!out || (library_count && !library_options)) return CUDA_ERROR_INVALID_VALUE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    auto library = std::make_unique<Library>();
    if (CUresult error = load(driver, image, Logs(count, options, values), &library->ptx, &library->first)) return error;
    for (const ptx::Function& function : library->first->ptx().functions)
        if (function.is_kernel && !function.is_declaration) library->names.push_back(function.name);
    *out = handle_of<CUlibrary>(driver.libraries.add(std::move(library)));
    return CUDA_SUCCESS;
}

int32_t kernel_named(const Module& module, std::string_view name) {
    const ptx::Module& ptx = module.loaded->ptx();
    int32_t index = ptx.find_function(name);
    if (index < 0) return -1;
    const ptx::Function& function = ptx.functions[static_cast<size_t>(index)];
    return function.is_kernel && !function.is_declaration ? index : -1;
}

Function* function_of(Module& module, int32_t index) {
    auto& function = module.functions[index];
    if (!function) {
        function = std::make_unique<Function>();
        function->module = &module;
        function->index = index;
    }
    return function.get();
}

Module* module_of(Driver& driver, Library& library, Context& context) {
    Module*& module = library.modules[&context];
    if (module) return module;
    auto made = std::make_unique<Module>();
    std::string error;
    made->loaded = library.first ? std::move(library.first) : driver.device->load(library.ptx, &error);
    if (!made->loaded) {
        library.modules.erase(&context);
        return nullptr;
    }
    made->context = &context;
    made->library = &library;
    return module = driver.modules.add(std::move(made));
}

/// Any of its modules, for what does not depend on a context.
const LoadedModule& loaded_of(Driver& driver, Library& library) {
    if (!library.first && !library.modules.empty()) return *library.modules.begin()->second->loaded;
    std::string error;
    if (!library.first) library.first = driver.device->load(library.ptx, &error);
    return *library.first;
}

Kernel* kernel_of(Library& library, const std::string& name) {
    if (std::find(library.names.begin(), library.names.end(), name) == library.names.end()) return nullptr;
    auto& kernel = library.kernels[name];
    if (!kernel) {
        kernel = std::make_unique<Kernel>();
        kernel->library = &library;
        kernel->name = name;
    }
    return kernel.get();
}

CUresult global(Module& module, const char* name, CUdeviceptr* address, size_t* bytes) {
    size_t size = 0;
    uint64_t at = module.loaded->address_of(name, &size);
    if (!at) return CUDA_ERROR_NOT_FOUND;
    if (address) *address = at;
    if (bytes) *bytes = size;
    return CUDA_SUCCESS;
}

CUresult parameter(const ptx::Function& function, size_t index, size_t* offset, size_t* bytes) {
    if (!offset || index >= function.parameters.size()) return CUDA_ERROR_INVALID_VALUE;
    *offset = static_cast<size_t>(function.parameters[index].offset);
    if (bytes) *bytes = static_cast<size_t>(function.parameters[index].bytes);
    return CUDA_SUCCESS;
}

}  // namespace

namespace flexemu::driver {

Function* Driver::find_function(CUfunction handle, Context* context) {
    for (const auto& [raw, module] : modules.all())
        for (const auto& [index, function] : module->functions)
            if (function.get() == reinterpret_cast<Function*>(handle)) return function.get();
    Kernel* kernel = find_kernel(reinterpret_cast<CUkernel>(handle));
    if (!kernel || !context) return nullptr;
    Module* module = module_of(*this, *kernel->library, *context);
    if (!module) return nullptr;
    Function* function = function_of(*module, kernel_named(*module, kernel->name));
    function->settings = &kernel->settings;
    return function;
}

}  // namespace flexemu::driver

extern "C" {

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
    return load_module(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleLoadFatBinary(CUmodule* module, const void* image) {
    return load_module(module, image, 0, nullptr, nullptr);
}
CUresult cuModuleLoadDataEx(CUmodule* module, const void* image, unsigned count, CUjit_option* options, void** values) {
    return load_module(module, image, count, options, values);
}

CUresult cuModuleLoad(CUmodule* module, const char* path) {
    std::string text;
    if (!path) return CUDA_ERROR_INVALID_VALUE;
    if (!read_file(path, &text)) return CUDA_ERROR_FILE_NOT_FOUND;
    return load_module(module, text.c_str(), 0, nullptr, nullptr);
}

CUresult cuModuleUnload(CUmodule handle) {
    FLEXEMU_CALL(Context);
    Module* module = driver.modules.find(handle);
    if (!module || module->library) return CUDA_ERROR_INVALID_HANDLE;
    if (CUresult error = check_unsafe_in_capture(call)) return error;
    driver.modules.remove(module);
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunction(CUfunction* out, CUmodule handle, const char* name) {
    FLEXEMU_CALL(Context);
    if (!out || !name) return CUDA_ERROR_INVALID_VALUE;
    Module* module = driver.modules.find(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    int32_t index = kernel_named(*module, name);
    if (index < 0) return CUDA_ERROR_NOT_FOUND;
    *out = handle_of<CUfunction>(function_of(*module, index));
    return CUDA_SUCCESS;
}

CUresult cuModuleGetFunctionCount(unsigned* count, CUmodule handle) {
    FLEXEMU_CALL(Context);
    Module* module = driver.modules.find(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = 0;
    for (const ptx::Function& function : module->loaded->ptx().functions) *count += function.is_kernel && !function.is_declaration;
    return CUDA_SUCCESS;
}

CUresult cuModuleEnumerateFunctions(CUfunction* out, unsigned count, CUmodule handle) {
    FLEXEMU_CALL(Context);
    Module* module = driver.modules.find(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    const auto& functions = module->loaded->ptx().functions;
    unsigned found = 0;
    for (size_t i = 0; i < functions.size() && found < count; ++i)
        if (functions[i].is_kernel && !functions[i].is_declaration)
            out[found++] = handle_of<CUfunction>(function_of(*module, static_cast<int32_t>(i)));
    return CUDA_SUCCESS;
}

CUresult cuModuleGetGlobal_v2(CUdeviceptr* address, size_t* bytes, CUmodule handle, const char* name) {
    FLEXEMU_CALL(Context);
    Module* module = driver.modules.find(handle);
    if (!module) return CUDA_ERROR_INVALID_HANDLE;
    return name ? global(*module, name, address, bytes) : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuModuleGetLoadingMode(CUmoduleLoadingMode* mode) {
    if (!mode) return CUDA_ERROR_INVALID_VALUE;
    *mode = CU_MODULE_EAGER_LOADING;
    return CUDA_SUCCESS;
}

CUresult cuLibraryLoadData(CUlibrary* library, const void* image, CUjit_option* options, void** values, unsigned count,
                           CUlibraryOption* library_options, void**, unsigned library_count) {
    return load_library(library, image, options, values, count, library_options, library_count);
}

CUresult cuLibraryLoadFromFile(CUlibrary* library, const char* path, CUjit_option* options, void** values, unsigned count,
                               CUlibraryOption* library_options, void**, unsigned library_count) {
    std::string text;
    if (!path) return CUDA_ERROR_INVALID_VALUE;
    if (!read_file(path, &text)) return CUDA_ERROR_FILE_NOT_FOUND;
    return load_library(library, text.c_str(), options, values, count, library_options, library_count);
}

CUresult cuLibraryUnload(CUlibrary handle) {
    FLEXEMU_CALL(Driver);
    Library* library = driver.libraries.find(handle);
    if (!library) return CUDA_ERROR_INVALID_HANDLE;
    driver.modules.remove_if([&](const Module& module) { return module.library == library; });
    driver.libraries.remove(library);
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel* out, CUlibrary handle, const char* name) {
    FLEXEMU_CALL(Driver);
    Library* library = driver.libraries.find(handle);
    if (!library) return CUDA_ERROR_INVALID_HANDLE;
    if (!out || !name) return CUDA_ERROR_INVALID_VALUE;
    Kernel* kernel = kernel_of(*library, name);
    if (!kernel) return CUDA_ERROR_NOT_FOUND;
    *out = handle_of<CUkernel>(kernel);
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernelCount(unsigned* count, CUlibrary handle) {
    FLEXEMU_CALL(Driver);
    Library* library = driver.libraries.find(handle);
    if (!library) return CUDA_ERROR_INVALID_HANDLE;
    if (!count) return CUDA_ERROR_INVALID_VALUE;
    *count = static_cast<unsigned>(library->names.size());
    return CUDA_SUCCESS;
}

CUresult cuLibraryEnumerateKernels(CUkernel* out, unsigned count, CUlibrary handle) {
    FLEXEMU_CALL(Driver);
    Library* library = driver.libraries.find(handle);
    if (!library) return CUDA_ERROR_INVALID_HANDLE;
    if (!out || count > library->names.size()) return CUDA_ERROR_INVALID_VALUE;
    for (unsigned i = 0; i < count; ++i) out[i] = handle_of<CUkernel>(kernel_of(*library, library->names[i]));
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetModule(CUmodule* out, CUlibrary handle) {
    FLEXEMU_CALL(Context);
    Library* library = driver.libraries.find(handle);
    if (!library) return CUDA_ERROR_INVALID_HANDLE;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    *out = handle_of<CUmodule>(module_of(driver, *library, call.context()));
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuLibraryGetGlobal(CUdeviceptr* address, size_t* bytes, CUlibrary handle, const char* name) {
    FLEXEMU_CALL(Context);
    Library* library = driver.libraries.find(handle);
    if (!library) return CUDA_ERROR_INVALID_HANDLE;
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    Module* module = module_of(driver, *library, call.context());
    return module ? global(*module, name, address, bytes) : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuLibraryGetManaged(CUdeviceptr*, size_t*, CUlibrary handle, const char* name) {
    FLEXEMU_CALL(Driver);
    if (!driver.libraries.find(handle)) return CUDA_ERROR_INVALID_HANDLE;
    return name ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuLibraryGetUnifiedFunction(void** function, CUlibrary handle, const char* symbol) {
    FLEXEMU_CALL(Driver);
    if (!driver.libraries.find(handle)) return CUDA_ERROR_INVALID_HANDLE;
    return function && symbol ? CUDA_ERROR_NOT_FOUND : CUDA_ERROR_INVALID_VALUE;
}

CUresult cuKernelGetFunction(CUfunction* out, CUkernel handle) {
    FLEXEMU_CALL(Context);
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    if (!driver.find_kernel(handle)) return CUDA_ERROR_INVALID_HANDLE;
    *out = handle_of<CUfunction>(driver.find_function(reinterpret_cast<CUfunction>(handle), &call.context()));
    return *out ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuKernelGetLibrary(CUlibrary* out, CUkernel handle) {
    FLEXEMU_CALL(Driver);
    Kernel* kernel = driver.find_kernel(handle);
    if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    *out = handle_of<CUlibrary>(kernel->library);
    return CUDA_SUCCESS;
}

CUresult cuKernelGetName(const char** name, CUkernel handle) {
    FLEXEMU_CALL(Driver);
    Kernel* kernel = driver.find_kernel(handle);
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
    *name = kernel->name.c_str();
    return CUDA_SUCCESS;
}

CUresult cuKernelGetParamInfo(CUkernel handle, size_t index, size_t* offset, size_t* bytes) {
    FLEXEMU_CALL(Driver);
    Kernel* kernel = driver.find_kernel(handle);
    if (!kernel) return CUDA_ERROR_INVALID_HANDLE;
    const ptx::Module& ptx = loaded_of(driver, *kernel->library).ptx();
    return parameter(ptx.functions[static_cast<size_t>(ptx.find_function(kernel->name))], index, offset, bytes);
}

CUresult cuFuncGetModule(CUmodule* out, CUfunction handle) {
    FLEXEMU_CALL(Context);
    Function* function = driver.find_function(handle, &call.context());
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    if (!out) return CUDA_ERROR_INVALID_VALUE;
    *out = handle_of<CUmodule>(function->module);
    return CUDA_SUCCESS;
}

CUresult cuFuncGetName(const char** name, CUfunction handle) {
    FLEXEMU_CALL(Context);
    if (!name) return CUDA_ERROR_INVALID_VALUE;
    Function* function = driver.find_function(handle, &call.context());
    if (!function) return CUDA_ERROR_INVALID_HANDLE;
    *name = function->ptx().name.c_str();
    return CUDA_SUCCESS;
}

CUresult cuFuncGetParamInfo(CUfunction handle, size_t index, size_t* offset, size_t* bytes) {
    FLEXEMU_CALL(Context);
    Function* function = driver.find_function(handle, &call.context());
    return function ? parameter(function->ptx(), index, offset, bytes) : CUDA_ERROR_INVALID_HANDLE;
}
}
