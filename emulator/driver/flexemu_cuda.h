/* What libflexemu_cuda.so offers beside the CUDA Driver API; look it up with dlsym where the driver may be another. Environment, read by cuInit:
 *
 *   FLEXEMU_DEVICE   sm_80, sm_86, sm_87, sm_89, sm_90 (the default), sm_100 or sm_120: what the device reports and the newest PTX target it takes
 *   FLEXEMU_SEED     seed of the schedules (0): the order in which warps run and asynchronous copies land. Each launch derives its own from it
 *   FLEXEMU_CHECKS   races,uninitialised (both by default), or none: checks that cost time; all others are always made
 *   FLEXEMU_TRACE    1: a line on stderr for each launch: name, grid, block, shared memory, warp instructions, seconds
 *   FLEXEMU_DUMP     a folder: the PTX of each module that is loaded is written there, module_0.ptx and so on
 *   FLEXEMU_REPLACE  a PTX file: it is taken in place of each module that has the same kernels
 *   CUDA_LAUNCH_BLOCKING  1: a launch that faults says so itself; otherwise, as on a GPU, the next call that synchronises does
 *
 * Work runs when it is enqueued, on the calling thread: a legal order for every program whose kernels do not wait for a later one. */
#pragma once
#ifdef __cplusplus
extern "C" {
#endif

/* The last fault of a launch in this process: what happened, the PTX line, the threads. "" if there was none. Valid until the process ends. */
const char* flexemu_last_fault(void);
/* Warp instructions that all launches of this process have executed. */
unsigned long long flexemu_warp_instructions(void);
/* Blocks that all launches of this process have finished. May be asked from another thread while a launch runs. */
unsigned long long flexemu_blocks_done(void);
/* From the next launch on, as if FLEXEMU_SEED were this. */
void flexemu_set_seed(unsigned long long seed);

#ifdef __cplusplus
}
#endif
