/* Reads the scenario file: a line each, a key of words joined by dots, a space, and the value. */
#include "scenario.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static scenario_t current;
static struct stat read_at;
static int was_read;

static void copy(char *to, size_t size, const char *from) { snprintf(to, size, "%s", from); }

static void add_process(device_t *device, const char *value) {
    process_t process;
    if (device->process_count < MAX_PROCESSES && sscanf(value, "%u %llu", &process.pid, &process.bytes) == 2)
        device->processes[device->process_count++] = process;
}

static int set_text(device_t *device, const char *key, const char *value) {
    if (!strcmp(key, "uuid")) copy(device->uuid, sizeof device->uuid, value);
    else if (!strcmp(key, "name")) copy(device->name, sizeof device->name, value);
    else if (!strncmp(key, "process.", 8)) add_process(device, value);
    else if (!strcmp(key, "capability"))
        sscanf(value, "%d.%d", &device->major_capability, &device->minor_capability);
    else return 0;
    return 1;
}

static void set_number(device_t *device, const char *key, bytes_t number) {
    struct { const char *key; void *to; int is_long; } table[] = {
        {"memory_total", &device->memory_total, 1}, {"memory_used", &device->memory_used, 1},
        {"ecc_uncorrected", &device->ecc_uncorrected, 1}, {"busy", &device->busy_percent, 0},
        {"power", &device->power_milliwatts, 0}, {"minor", &device->minor, 0}, {"cores", &device->cores, 0},
        {"units", &device->units, 0}, {"gi", &device->gi, 0}, {"ci", &device->ci, 0}, {"slices", &device->slices, 0},
        {"ecc", &device->ecc, 0}, {"mig", &device->mig, 0}, {"gpm", &device->gpm, 0},
        {"row_remapping", &device->row_remapping, 0}, {"remap_pending", &device->remap_pending, 0},
        {"remap_failure", &device->remap_failure, 0}, {"pages_pending", &device->pages_pending, 0},
        {"lost", &device->lost, 0}, {"gone", &device->gone, 0},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(key, table[i].key)) continue;
        if (table[i].is_long) *(bytes_t *)table[i].to = number;
        else *(int *)table[i].to = (int)number;
        return;
    }
    fprintf(stderr, "scenario: no key %s\n", key);
    abort();
}

static void set_device(scenario_t *scenario, int gpu, int slice, const char *key, const char *value) {
    if (gpu < 0 || gpu >= MAX_GPUS || slice >= MAX_SLICES) abort();
    device_t *device = slice == WHOLE ? &scenario->gpus[gpu] : &scenario->slices[gpu][slice];
    device->present = 1;
    if (!set_text(device, key, value)) set_number(device, key, strtoull(value, NULL, 10));
}

static void add_error(scenario_t *scenario, const char *key, const char *value) {
    error_t error = {.gpu = ANY, .slice = ANY, .code = atoi(value)};
    int found = sscanf(key, "error.%63[^.].gpu.%d.mig.%d", error.function, &error.gpu, &error.slice);
    if (found == 2) error.slice = WHOLE;
    if (found >= 1 && scenario->error_count < MAX_ERRORS) scenario->errors[scenario->error_count++] = error;
}

static void add_event(scenario_t *scenario, const char *key, const char *value) {
    event_t event;
    if (sscanf(key, "event.%u", &event.serial) == 1 && scenario->event_count < MAX_EVENTS
        && sscanf(value, "%d %llu %llu %u %u", &event.gpu, &event.type, &event.data, &event.gi, &event.ci) == 5)
        scenario->events[scenario->event_count++] = event;
}

static void read_line(scenario_t *scenario, char *line) {
    char *value = strchr(line, ' '), key[128];
    int gpu, slice;
    line[strcspn(line, "\n")] = '\0';
    if (*line == '#' || value == NULL) return;
    *value++ = '\0';
    if (sscanf(line, "gpu.%d.mig.%d.%127s", &gpu, &slice, key) == 3) set_device(scenario, gpu, slice, key, value);
    else if (sscanf(line, "gpu.%d.%127s", &gpu, key) == 2) set_device(scenario, gpu, WHOLE, key, value);
    else if (!strncmp(line, "error.", 6)) add_error(scenario, line, value);
    else if (!strncmp(line, "event.", 6)) add_event(scenario, line, value);
    else if (!strcmp(line, "driver")) copy(scenario->driver, sizeof scenario->driver, value);
}

const scenario_t *scenario_now(void) {
    const char *path = getenv("MUDEUNG_NVML_SCENARIO");
    struct stat found;
    if (path == NULL || stat(path, &found) != 0) return was_read ? &current : NULL;
    int same = was_read && found.st_ino == read_at.st_ino && found.st_dev == read_at.st_dev
        && found.st_size == read_at.st_size && found.st_mtim.tv_sec == read_at.st_mtim.tv_sec
        && found.st_mtim.tv_nsec == read_at.st_mtim.tv_nsec;
    if (same) return &current;
    FILE *file = fopen(path, "r");
    if (file == NULL) return was_read ? &current : NULL;
    char line[512];
    memset(&current, 0, sizeof current);
    while (fgets(line, sizeof line, file) != NULL) read_line(&current, line);
    fclose(file);
    read_at = found;
    was_read = 1;
    return &current;
}

int scenario_error(const scenario_t *scenario, const char *function, int gpu, int slice) {
    for (int i = 0; i < scenario->error_count; i++) {
        const error_t *error = &scenario->errors[i];
        if (strcmp(error->function, function)) continue;
        if ((error->gpu == ANY || error->gpu == gpu) && (error->slice == ANY || error->slice == slice))
            return error->code;
    }
    return 0;
}
