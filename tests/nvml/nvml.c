/* The part of NVML's C interface that a monitoring program calls, answered from a scenario file.
 *
 * Names, argument orders, structures and return codes are NVML's own, so that the real Python binding works on it.
 * What a slice or a GPU cut into slices does not tell (utilisation, power) is refused as the driver refuses it.
 */
#include "scenario.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    SUCCESS = 0, UNINITIALIZED = 1, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9, TIMEOUT = 10, GPU_IS_LOST = 15,
};
#define NO_INSTANCE 0xFFFFFFFFu
#define WAIT_STEP_MILLISECONDS 100
#define API __attribute__((visibility("default")))

typedef struct { int gpu, slice; } handle_t;
typedef struct { unsigned int types[MAX_GPUS], last_serial; } event_set_t;
typedef struct { double busy; int taken; } gpm_sample_t;
typedef struct { bytes_t total, free, used; } memory_t;
typedef struct { unsigned int version; bytes_t total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned int gpu, memory; } utilization_t;
typedef struct { unsigned int pid; bytes_t memory; unsigned int gi, ci; } process_info_t;
typedef struct { handle_t *device; bytes_t type, data; unsigned int gi, ci; } event_data_t;
typedef struct { unsigned int version, supported; } gpm_support_t;
typedef struct { unsigned int id; int result; double value; const char *texts[3]; } gpm_metric_t;
typedef struct { unsigned int version, count; gpm_sample_t *first, *second; gpm_metric_t metrics[1]; } gpm_get_t;
typedef struct {
    unsigned int multiprocessors, copy_engines, decoders, encoders, jpegs, ofas, gpu_slices, compute_slices;
    bytes_t memory_mib;
} attributes_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int users, listed_count, listed[MAX_GPUS];
static handle_t handles[MAX_GPUS][MAX_SLICES + 1];

static handle_t *handle_of(int gpu, int slice) {
    handle_t *handle = &handles[gpu][slice + 1];
    handle->gpu = gpu;
    handle->slice = slice;
    return handle;
}

/* Take the lock and find the device; the answer is what the scenario wants of this function. Call LEAVE after it. */
static int enter(const char *function, const handle_t *handle, const device_t **device) {
    pthread_mutex_lock(&lock);
    const scenario_t *scenario = scenario_now();
    *device = NULL;
    if (users == 0 || scenario == NULL) return UNINITIALIZED;
    if (handle == NULL) return INVALID_ARGUMENT;
    const device_t *gpu = &scenario->gpus[handle->gpu];
    *device = handle->slice == WHOLE ? gpu : &scenario->slices[handle->gpu][handle->slice];
    if (!gpu->present || gpu->gone || gpu->lost) return GPU_IS_LOST;
    if (!(*device)->present) return NOT_FOUND;
    return scenario_error(scenario, function, handle->gpu, handle->slice);
}

#define LEAVE(result) do { int left_with = (result); pthread_mutex_unlock(&lock); return left_with; } while (0)
#define ENTER(handle) const device_t *device; int result = enter(__func__, handle, &device); if (result) LEAVE(result)
#define NEEDS(condition) do { if (!(condition)) LEAVE(NOT_SUPPORTED); } while (0)
#define IS_SLICE(handle) ((handle)->slice != WHOLE)

static int put_text(char *to, unsigned int size, const char *text) {
    if (strlen(text) + 1 > size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

API int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    pthread_mutex_lock(&lock);
    const scenario_t *scenario = scenario_now();
    int result = scenario == NULL ? DRIVER_NOT_LOADED : scenario_error(scenario, __func__, ANY, ANY);
    if (result) LEAVE(result);
    if (users++ == 0) { /* as the driver does, GPUs are listed once; slices come and go */
        listed_count = 0;
        for (int gpu = 0; gpu < MAX_GPUS; gpu++)
            if (scenario->gpus[gpu].present && !scenario->gpus[gpu].gone) listed[listed_count++] = gpu;
    }
    LEAVE(SUCCESS);
}

API int nvmlShutdown(void) {
    pthread_mutex_lock(&lock);
    if (users == 0) LEAVE(UNINITIALIZED);
    users--;
    LEAVE(SUCCESS);
}

API const char *nvmlErrorString(int result) {
    static const char *texts[] = {[SUCCESS] = "Success", [UNINITIALIZED] = "Uninitialized",
        [INVALID_ARGUMENT] = "Invalid Argument", [NOT_SUPPORTED] = "Not Supported", [NOT_FOUND] = "Not Found",
        [INSUFFICIENT_SIZE] = "Insufficient Size", [DRIVER_NOT_LOADED] = "Driver Not Loaded", [TIMEOUT] = "Timeout",
        [GPU_IS_LOST] = "GPU is lost"};
    int known = result >= 0 && result <= GPU_IS_LOST && texts[result] != NULL;
    return known ? texts[result] : "Unknown Error";
}

API int nvmlSystemGetDriverVersion(char *text, unsigned int size) {
    pthread_mutex_lock(&lock);
    const scenario_t *scenario = scenario_now();
    LEAVE(users == 0 || scenario == NULL ? UNINITIALIZED : put_text(text, size, scenario->driver));
}

API int nvmlDeviceGetCount_v2(unsigned int *count) {
    pthread_mutex_lock(&lock);
    const scenario_t *scenario = scenario_now();
    if (users == 0 || scenario == NULL) LEAVE(UNINITIALIZED);
    *count = (unsigned int)listed_count;
    LEAVE(scenario_error(scenario, __func__, ANY, ANY));
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned int index, handle_t **found) {
    pthread_mutex_lock(&lock);
    int gpu = (int)index < listed_count ? listed[index] : -1;
    pthread_mutex_unlock(&lock);
    if (gpu < 0) return INVALID_ARGUMENT;
    ENTER(handle_of(gpu, WHOLE));
    *found = handle_of(gpu, WHOLE);
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetUUID(handle_t *handle, char *text, unsigned int size) {
    ENTER(handle);
    LEAVE(put_text(text, size, device->uuid));
}

API int nvmlDeviceGetName(handle_t *handle, char *text, unsigned int size) {
    ENTER(handle);
    LEAVE(put_text(text, size, device->name));
}

API int nvmlDeviceGetMinorNumber(handle_t *handle, unsigned int *minor) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle));
    *minor = device->minor;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetNumGpuCores(handle_t *handle, unsigned int *cores) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle));
    *cores = device->cores;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetCudaComputeCapability(handle_t *handle, int *major, int *minor) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle));
    *major = device->major_capability;
    *minor = device->minor_capability;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetMemoryInfo(handle_t *handle, memory_t *memory) {
    ENTER(handle);
    *memory = (memory_t){device->memory_total, device->memory_total - device->memory_used, device->memory_used};
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetMemoryInfo_v2(handle_t *handle, memory_v2_t *memory) {
    ENTER(handle);
    memory->total = device->memory_total;
    memory->reserved = 0;
    memory->free = device->memory_total - device->memory_used;
    memory->used = device->memory_used;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetUtilizationRates(handle_t *handle, utilization_t *utilization) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle) && !device->mig);
    *utilization = (utilization_t){device->busy_percent, 0};
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetPowerUsage(handle_t *handle, unsigned int *milliwatts) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle));
    *milliwatts = device->power_milliwatts;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetEccMode(handle_t *handle, unsigned int *now, unsigned int *pending) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle) && device->ecc >= 0);
    *now = *pending = (unsigned int)device->ecc;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetTotalEccErrors(handle_t *handle, unsigned int kind, unsigned int counter, bytes_t *count) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle) && device->ecc > 0);
    *count = kind == 1 && counter == 0 ? device->ecc_uncorrected : 0;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetRemappedRows(handle_t *handle, unsigned int *corrected, unsigned int *uncorrected,
                                  unsigned int *pending, unsigned int *failure) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle) && device->row_remapping);
    *corrected = *uncorrected = 0;
    *pending = (unsigned int)device->remap_pending;
    *failure = (unsigned int)device->remap_failure;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetRetiredPagesPendingStatus(handle_t *handle, unsigned int *pending) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle) && !device->row_remapping);
    *pending = (unsigned int)device->pages_pending;
    LEAVE(SUCCESS);
}

static void gather(const device_t *device, int is_slice, process_info_t *infos, unsigned int room, unsigned int *count) {
    for (int i = 0; i < device->process_count; i++, (*count)++) {
        const process_t *process = &device->processes[i];
        if (*count < room)
            infos[*count] = (process_info_t){process->pid, process->bytes, is_slice ? device->gi : NO_INSTANCE,
                                             is_slice ? device->ci : NO_INSTANCE};
    }
}

API int nvmlDeviceGetComputeRunningProcesses_v3(handle_t *handle, unsigned int *count, process_info_t *infos) {
    ENTER(handle);
    unsigned int room = infos == NULL ? 0 : *count;
    *count = 0;
    gather(device, IS_SLICE(handle), infos, room, count);
    if (!IS_SLICE(handle) && device->mig)
        for (int slice = 0; slice < MAX_SLICES; slice++)
            gather(&scenario_now()->slices[handle->gpu][slice], 1, infos, room, count);
    LEAVE(*count > room ? INSUFFICIENT_SIZE : SUCCESS);
}

API int nvmlDeviceGetGraphicsRunningProcesses_v3(handle_t *handle, unsigned int *count, process_info_t *infos) {
    ENTER(handle);
    (void)infos;
    *count = 0;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetMigMode(handle_t *handle, unsigned int *now, unsigned int *pending) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle) && device->mig >= 0);
    *now = *pending = (unsigned int)device->mig;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetMaxMigDeviceCount(handle_t *handle, unsigned int *count) {
    ENTER(handle);
    *count = device->mig > 0 ? MAX_SLICES - 1 : 0;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetMigDeviceHandleByIndex(handle_t *handle, unsigned int index, handle_t **found) {
    ENTER(handle);
    if (index >= MAX_SLICES) LEAVE(INVALID_ARGUMENT);
    if (!scenario_now()->slices[handle->gpu][index].present) LEAVE(NOT_FOUND);
    *found = handle_of(handle->gpu, (int)index);
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(handle_t *handle, handle_t **found) {
    ENTER(handle);
    if (!IS_SLICE(handle)) LEAVE(INVALID_ARGUMENT);
    *found = handle_of(handle->gpu, WHOLE);
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetGpuInstanceId(handle_t *handle, unsigned int *id) {
    ENTER(handle);
    NEEDS(IS_SLICE(handle));
    *id = device->gi;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetComputeInstanceId(handle_t *handle, unsigned int *id) {
    ENTER(handle);
    NEEDS(IS_SLICE(handle));
    *id = device->ci;
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetAttributes_v2(handle_t *handle, attributes_t *attributes) {
    ENTER(handle);
    NEEDS(IS_SLICE(handle));
    *attributes = (attributes_t){.multiprocessors = device->units, .copy_engines = 1, .gpu_slices = device->slices,
                                 .compute_slices = device->slices, .memory_mib = device->memory_total >> 20};
    LEAVE(SUCCESS);
}

API int nvmlDeviceGetSupportedEventTypes(handle_t *handle, bytes_t *types) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle));
    *types = 0x1 | 0x2 | 0x8;
    LEAVE(SUCCESS);
}

API int nvmlEventSetCreate(event_set_t **set) {
    pthread_mutex_lock(&lock);
    const scenario_t *scenario = scenario_now();
    if (users == 0 || scenario == NULL) LEAVE(UNINITIALIZED);
    *set = calloc(1, sizeof **set);
    for (int i = 0; i < scenario->event_count; i++) /* what came before the set is not told to it */
        if (scenario->events[i].serial > (*set)->last_serial) (*set)->last_serial = scenario->events[i].serial;
    LEAVE(scenario_error(scenario, __func__, ANY, ANY));
}

API int nvmlDeviceRegisterEvents(handle_t *handle, bytes_t types, event_set_t *set) {
    ENTER(handle);
    NEEDS(!IS_SLICE(handle));
    set->types[handle->gpu] |= (unsigned int)types;
    LEAVE(SUCCESS);
}

static int take_event(event_set_t *set, event_data_t *data) {
    pthread_mutex_lock(&lock);
    const scenario_t *scenario = scenario_now();
    if (users == 0 || scenario == NULL) LEAVE(UNINITIALIZED);
    int wanted = scenario_error(scenario, "nvmlEventSetWait_v2", ANY, ANY);
    if (wanted) LEAVE(wanted);
    const event_t *next = NULL;
    for (int i = 0; i < scenario->event_count; i++) {
        const event_t *event = &scenario->events[i];
        if (event->serial > set->last_serial && set->types[event->gpu] & event->type)
            if (next == NULL || event->serial < next->serial) next = event;
    }
    if (next == NULL) LEAVE(TIMEOUT);
    set->last_serial = next->serial;
    *data = (event_data_t){handle_of(next->gpu, WHOLE), next->type, next->data, next->gi, next->ci};
    LEAVE(SUCCESS);
}

API int nvmlEventSetWait_v2(event_set_t *set, event_data_t *data, unsigned int timeout_milliseconds) {
    for (unsigned int waited = 0;; waited += WAIT_STEP_MILLISECONDS) {
        int result = take_event(set, data);
        if (result != TIMEOUT || waited >= timeout_milliseconds) return result;
        usleep(WAIT_STEP_MILLISECONDS * 1000);
    }
}

API int nvmlEventSetFree(event_set_t *set) {
    free(set);
    return SUCCESS;
}

API int nvmlGpmQueryDeviceSupport(handle_t *handle, gpm_support_t *support) {
    ENTER(handle);
    support->supported = (unsigned int)device->gpm;
    LEAVE(SUCCESS);
}

API int nvmlGpmSampleAlloc(gpm_sample_t **sample) {
    *sample = calloc(1, sizeof **sample);
    return SUCCESS;
}

API int nvmlGpmSampleFree(gpm_sample_t *sample) {
    free(sample);
    return SUCCESS;
}

API int nvmlGpmMigSampleGet(handle_t *handle, unsigned int gi, gpm_sample_t *sample) {
    ENTER(handle);
    NEEDS(device->gpm && !IS_SLICE(handle));
    for (int slice = 0; slice < MAX_SLICES; slice++) {
        const device_t *found = &scenario_now()->slices[handle->gpu][slice];
        if (!found->present || found->gi != gi) continue;
        *sample = (gpm_sample_t){found->busy_percent, 1};
        LEAVE(SUCCESS);
    }
    LEAVE(NOT_FOUND);
}

/* The SMs' use between two samples: here what the later one found. */
API int nvmlGpmMetricsGet(gpm_get_t *get) {
    if (get->version != 1 || !get->first->taken || !get->second->taken) return INVALID_ARGUMENT;
    for (unsigned int i = 0; i < get->count; i++) {
        gpm_metric_t *metric = &get->metrics[i];
        metric->result = metric->id == 1 || metric->id == 2 ? SUCCESS : NOT_SUPPORTED;
        metric->value = metric->result == SUCCESS ? get->second->busy : 0;
    }
    return SUCCESS;
}
