// A CUDA driver that does nothing but keep books: host memory for device memory, a log of the calls that matter, faults on request. Built as a shared library;
// the test that uses it finds `mock_driver` in it by dlsym.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

struct MockLaunch {
    std::string function;
    unsigned grid[3], block, shared;
    void* stream;
    std::vector<unsigned char> parameter;  // Mock::parameter_bytes of it
    std::vector<unsigned char> second;     // Mock::second_bytes of another
};

struct MockMap {
    int type;
    uint64_t address;
    std::vector<uint64_t> extents, strides;
    std::vector<uint32_t> box, element_strides;
    int interleave, swizzle, promotion, fill;
};

struct MockFill {
    uint64_t to;
    unsigned pattern;
    size_t words;
    void* stream;
    size_t pitch = 0, width = 0, height = 0;  // of cuMemsetD2D16Async, which has no words
};

struct Mock {
    // What the device is.
    int capability_major = 8, capability_minor = 0, multiprocessors = 108, shared_optin = 166912, shared_multiprocessor = 167936;
    // What is asked of it.
    std::map<std::string, int> fail;               // entry point -> result of its next calls
    std::string jit_log;                           // module_load fails with it if not empty
    std::string missing_function;                  // a kernel that modules do not have
    size_t parameter_bytes = 0, second_bytes = 0;  // second: of kernels whose names end in "_forward"
    bool capturing = false;                        // every stream says so
    // What happened.
    std::vector<std::string> log;  // names of the entry points, without the queries
    std::vector<MockLaunch> launches;
    std::vector<MockFill> fills;
    std::vector<MockMap> maps;                    // the first word of a map is 1000 + its index here
    std::map<std::string, int> shared_attribute;  // by function
    int modules_loaded = 0, modules_unloaded = 0, primary_references = 0, allocations = 0;
    int capture_mode_while_loading = -1;
    int load_milliseconds = 0;  // how long loading a module takes, so that threads meet there

    virtual ~Mock() = default;
    /// Back to the beginning, but contexts and their ids go on.
    virtual void reset() = 0;
    virtual void* create_context() = 0;  // current afterwards, as cuCtxCreate does
    /// The next context is created at this one's address.
    virtual void destroy_context(void* context) = 0;
    virtual void set_current(void* context) = 0;
    virtual int capture_mode() = 0;  // of this thread
};

extern "C" Mock* mock_driver();
