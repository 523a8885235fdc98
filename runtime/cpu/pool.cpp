#include "runtime/cpu/pool.h"

#include <atomic>
#include <cstdlib>
#include <new>

#include <pthread.h>
#if defined(__linux__)
#include <sched.h>
#endif
#include <unistd.h>

namespace flex::cpu {
namespace {

struct Job {
    void (*run)(void*, int64_t);
    void* context;
    int64_t count;
    std::atomic<int64_t> next{0};
    int vacancies;    // helpers that may still join; guarded by the pool's mutex, as are the rest
    int helpers = 0;  // helpers at work
    Job* following = nullptr;
};

void work(Job& job) {
    for (int64_t item; (item = job.next.fetch_add(1, std::memory_order_relaxed)) < job.count;) job.run(job.context, item);
}

/// Jobs live on their callers' stacks, linked while helpers may join. Never destroyed: workers outlive main().
class Pool {
public:
    void run(Job& job) {
        pthread_mutex_lock(&mutex_);
        while (workers_ < job.vacancies && start_worker()) ++workers_;
        job.following = jobs_;
        jobs_ = &job;
        pthread_cond_broadcast(&arrived_);
        pthread_mutex_unlock(&mutex_);

        work(job);

        pthread_mutex_lock(&mutex_);
        Job** link = &jobs_;
        while (*link != &job) link = &(*link)->following;
        *link = job.following;
        while (job.helpers > 0) pthread_cond_wait(&left_, &mutex_);
        pthread_mutex_unlock(&mutex_);
    }

private:
    bool start_worker() {
        pthread_t thread;
        pthread_attr_t attributes;
        pthread_attr_init(&attributes);
        pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
        const int failed = pthread_create(
            &thread, &attributes,
            [](void* pool) -> void* {
                static_cast<Pool*>(pool)->serve();
                return nullptr;
            },
            this);
        pthread_attr_destroy(&attributes);
        return failed == 0;
    }

    [[noreturn]] void serve() {
        pthread_mutex_lock(&mutex_);
        for (;;) {
            Job* job = jobs_;
            while (job && (job->vacancies == 0 || job->next.load(std::memory_order_relaxed) >= job->count)) job = job->following;
            if (!job) {
                pthread_cond_wait(&arrived_, &mutex_);
                continue;
            }
            --job->vacancies;
            ++job->helpers;
            pthread_mutex_unlock(&mutex_);
            work(*job);
            pthread_mutex_lock(&mutex_);
            if (--job->helpers == 0) pthread_cond_broadcast(&left_);
        }
    }

    pthread_mutex_t mutex_ = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t arrived_ = PTHREAD_COND_INITIALIZER;
    pthread_cond_t left_ = PTHREAD_COND_INITIALIZER;
    Job* jobs_ = nullptr;
    int workers_ = 0;
};

pthread_mutex_t g_pool_mutex = PTHREAD_MUTEX_INITIALIZER;  // held across fork(), so that the child finds it whole
Pool* g_pool = nullptr;

/// Null if there is no memory for one.
Pool* pool() {
    pthread_mutex_lock(&g_pool_mutex);
    static bool registered = false;
    if (!registered) {
        registered = true;
        pthread_atfork([] { pthread_mutex_lock(&g_pool_mutex); }, [] { pthread_mutex_unlock(&g_pool_mutex); },
                       [] {
                           g_pool = nullptr;  // its threads did not come along
                           pthread_mutex_unlock(&g_pool_mutex);
                       });
    }
    if (!g_pool) g_pool = new (std::nothrow) Pool;
    Pool* found = g_pool;
    pthread_mutex_unlock(&g_pool_mutex);
    return found;
}

struct Scratch {
    void* data = nullptr;
    size_t bytes = 0;
    ~Scratch() { std::free(data); }
};

}  // namespace

int available_threads() {
#if defined(__linux__)
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0) return CPU_COUNT(&set);
#endif
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? static_cast<int>(online) : 1;
}

void parallel_for(int threads, int64_t count, void (*run)(void* context, int64_t item), void* context) {
    Job job;
    job.run = run;
    job.context = context;
    job.count = count;
    job.vacancies = static_cast<int>(threads < count ? threads : count) - 1;
    Pool* shared = job.vacancies > 0 ? pool() : nullptr;
    if (shared)
        shared->run(job);
    else
        work(job);
}

void* thread_scratch(size_t bytes) {
    thread_local Scratch scratch;
    if (scratch.bytes < bytes) {
        std::free(scratch.data);
        const size_t rounded = (bytes + 4095) / 4096 * 4096;
        scratch.data = std::aligned_alloc(4096, rounded);
        scratch.bytes = scratch.data ? rounded : 0;
    }
    return scratch.data;
}

}  // namespace flex::cpu
