/* What the scenario file says of the machine's GPUs; see library.py for the format. */
#ifndef SCENARIO_H
#define SCENARIO_H

#define MAX_GPUS 16
#define MAX_SLICES 8
#define MAX_PROCESSES 64
#define MAX_ERRORS 64
#define MAX_EVENTS 256
#define WHOLE (-1)
#define ANY (-2)

typedef unsigned long long bytes_t;

typedef struct {
    unsigned int pid;
    bytes_t bytes;
} process_t;

/* A GPU, or a slice of one: a slice has `gi` and `ci`, and leaves what only a GPU has at zero. */
typedef struct {
    int present;
    char uuid[96];
    char name[96];
    bytes_t memory_total, memory_used;
    unsigned int busy_percent, power_milliwatts, minor, cores, units;
    int major_capability, minor_capability;
    unsigned int gi, ci, slices;
    int ecc, mig, gpm, row_remapping, remap_pending, remap_failure, pages_pending, lost, gone;
    bytes_t ecc_uncorrected;
    int process_count;
    process_t processes[MAX_PROCESSES];
} device_t;

typedef struct {
    char function[64];
    int gpu, slice, code;
} error_t;

typedef struct {
    unsigned int serial, gi, ci;
    int gpu;
    bytes_t type, data;
} event_t;

typedef struct {
    char driver[64];
    device_t gpus[MAX_GPUS];
    device_t slices[MAX_GPUS][MAX_SLICES];
    int error_count, event_count;
    error_t errors[MAX_ERRORS];
    event_t events[MAX_EVENTS];
} scenario_t;

/* The scenario as the file has it now: read again where the file is another, or was written since. Hold the lock. */
const scenario_t *scenario_now(void);

/* The code that the scenario wants from `function` for that device, or 0. */
int scenario_error(const scenario_t *scenario, const char *function, int gpu, int slice);

#endif
