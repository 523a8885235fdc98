// The process's worker threads. Started when first needed, kept for the life of the process, idle between launches.
//
// A job is `count` work items. Threads take the next item until none is left, so that uneven items balance; the caller
// works too. Several threads may run jobs at the same time: the workers divide among them. After fork() the child starts
// workers of its own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace flex::cpu {

/// How many CPUs this process may use (its affinity mask), at least 1.
int available_threads();

/// Calls run(context, item) once for every item in [0, count), on at most `threads` threads; returns when all are done.
/// Fewer threads serve if the system grants no more. Whatever the items wrote is visible to the caller.
void parallel_for(int threads, int64_t count, void (*run)(void* context, int64_t item), void* context);

template <class F>
void parallel_for(int threads, int64_t count, F& f) {
    parallel_for(threads, count, [](void* context, int64_t item) { (*static_cast<F*>(context))(item); }, &f);
}

/// Memory of the calling thread for the time of one work item: at least `bytes`, 64-byte aligned, kept for the next
/// item. Null if there is none.
void* thread_scratch(size_t bytes);

}  // namespace flex::cpu
