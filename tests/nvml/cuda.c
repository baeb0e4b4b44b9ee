/* The part of CUDA's driver interface that scrubbing and a small tenant call. A device's memory is a file.
 *
 * MUDEUNG_CUDA_MEMORY is a folder; the file in it that is named as CUDA_VISIBLE_DEVICES says is the only device, and
 * its size is the device's memory. An allocation is a piece of the file, which keeps the bytes that were in it: what a
 * tenant left is there for the next. MUDEUNG_CUDA_HELD bytes at the end stand for what another program holds.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, NO_DEVICE = 100, INVALID_CONTEXT = 201 };
#define GRANULE 4096ULL
#define MAX_PIECES 4096
#define API __attribute__((visibility("default")))

typedef unsigned long long address_t;
typedef struct { address_t from, size; } piece_t;

static char *memory;
static address_t total, usable;
static piece_t pieces[MAX_PIECES]; /* in the order of their addresses */
static int piece_count, context;

API int cuInit(unsigned int flags) {
    const char *folder = getenv("MUDEUNG_CUDA_MEMORY"), *device = getenv("CUDA_VISIBLE_DEVICES");
    const char *held = getenv("MUDEUNG_CUDA_HELD");
    char path[4096];
    struct stat found;
    if (flags != 0 || folder == NULL || device == NULL) return NO_DEVICE;
    snprintf(path, sizeof path, "%s/%s", folder, device);
    int file = open(path, O_RDWR);
    if (file < 0 || fstat(file, &found) != 0) return NO_DEVICE;
    memory = mmap(NULL, (size_t)found.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (memory == MAP_FAILED) return NO_DEVICE;
    total = (address_t)found.st_size;
    usable = total - (held == NULL ? 0 : strtoull(held, NULL, 10));
    return SUCCESS;
}

API int cuDriverGetVersion(int *version) {
    *version = 12040;
    return SUCCESS;
}

API int cuDeviceGetCount(int *count) {
    *count = memory != NULL;
    return memory == NULL ? NOT_INITIALIZED : SUCCESS;
}

API int cuDeviceGet(int *device, int ordinal) {
    *device = 0;
    return memory == NULL ? NOT_INITIALIZED : ordinal == 0 ? SUCCESS : NO_DEVICE;
}

API int cuDevicePrimaryCtxRetain(void **created, int device) {
    if (memory == NULL || device != 0) return NOT_INITIALIZED;
    *created = &context;
    return SUCCESS;
}

API int cuDevicePrimaryCtxRelease_v2(int device) {
    piece_count = 0;
    context = 0;
    return device == 0 ? SUCCESS : INVALID_VALUE;
}

API int cuCtxSetCurrent(void *wanted) {
    context = wanted == &context;
    return SUCCESS;
}

API int cuCtxSynchronize(void) { return context ? SUCCESS : INVALID_CONTEXT; }

API int cuMemGetInfo_v2(size_t *free_bytes, size_t *total_bytes) {
    if (!context) return INVALID_CONTEXT;
    address_t used = 0;
    for (int i = 0; i < piece_count; i++) used += pieces[i].size;
    *free_bytes = usable - used;
    *total_bytes = total;
    return SUCCESS;
}

API int cuMemAlloc_v2(address_t *address, size_t size) {
    if (!context) return INVALID_CONTEXT;
    if (size == 0) return INVALID_VALUE;
    address_t wanted = (size + GRANULE - 1) / GRANULE * GRANULE, from = 0;
    int place = 0; /* before which piece there is room */
    for (; place < piece_count && pieces[place].from - from < wanted; place++)
        from = pieces[place].from + pieces[place].size;
    if (piece_count == MAX_PIECES || from + wanted > usable) return OUT_OF_MEMORY;
    memmove(&pieces[place + 1], &pieces[place], (size_t)(piece_count - place) * sizeof *pieces);
    pieces[place] = (piece_t){from, wanted};
    piece_count++;
    *address = (address_t)(size_t)memory + from;
    return SUCCESS;
}

/* Which piece all of these bytes are in, or -1. */
static int piece_of(address_t address, size_t size) {
    address_t from = address - (address_t)(size_t)memory;
    for (int i = 0; i < piece_count; i++)
        if (from >= pieces[i].from && from + size <= pieces[i].from + pieces[i].size) return i;
    return -1;
}

API int cuMemFree_v2(address_t address) {
    int place = piece_of(address, 1);
    if (place < 0) return INVALID_VALUE;
    memmove(&pieces[place], &pieces[place + 1], (size_t)(--piece_count - place) * sizeof *pieces);
    return SUCCESS;
}

API int cuMemsetD8_v2(address_t address, unsigned char value, size_t size) {
    if (piece_of(address, size) < 0) return INVALID_VALUE;
    memset((void *)(size_t)address, value, size);
    return SUCCESS;
}

API int cuMemcpyHtoD_v2(address_t address, const void *from, size_t size) {
    if (piece_of(address, size) < 0) return INVALID_VALUE;
    memcpy((void *)(size_t)address, from, size);
    return SUCCESS;
}

API int cuMemcpyDtoH_v2(void *to, address_t address, size_t size) {
    if (piece_of(address, size) < 0) return INVALID_VALUE;
    memcpy(to, (void *)(size_t)address, size);
    return SUCCESS;
}

API int cuGetErrorString(int result, const char **text) {
    *text = result == OUT_OF_MEMORY ? "out of memory" : result == NO_DEVICE ? "no CUDA-capable device is detected"
          : result == SUCCESS ? "no error" : "invalid";
    return SUCCESS;
}
