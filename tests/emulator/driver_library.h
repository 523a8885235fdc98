// The functions of a CUDA driver library, loaded by dlopen as programs do.
#pragma once

#include <dlfcn.h>

#include <memory>
#include <string>

#include "emulator/driver/functions.h"

namespace emulator_test {

class DriverLibrary {
public:
    /// Null with a message if the library cannot be loaded. It stays loaded until the process ends.
    static std::unique_ptr<DriverLibrary> open(const std::string& path, std::string* error) {
        void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
        if (!handle) {
            *error = dlerror();
            return nullptr;
        }
        return std::unique_ptr<DriverLibrary>(new DriverLibrary(handle));
    }

    template <typename F>
    F* find(const char* name) const {
        return reinterpret_cast<F*>(dlsym(handle_, name));
    }

private:
    explicit DriverLibrary(void* handle) : handle_(handle) {}
    void* handle_;
};

/// cu(cuInit)(0): the function of the API, by its name.
#define FLEXEMU_API(library, name) ((library).template find<decltype(name)>(#name))

}  // namespace emulator_test
