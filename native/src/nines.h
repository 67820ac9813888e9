// What the parts of the native addon share. System calls only: no policy, no timers, no memory of its own
// beyond the readiness watches. Every call answers a number: what the system call answered, or -errno.
#ifndef NINES_H
#define NINES_H
#define _GNU_SOURCE
#include <node_api.h>

#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
  uint8_t *data;
  size_t length;
} bytes_t;

// Reads the call's arguments; false after throwing a TypeError, which is a bug of the facade.
bool take(napi_env env, napi_callback_info info, size_t wanted, napi_value *argv, void **data);
bool take_int(napi_env env, napi_value value, int *out);
bool take_u32(napi_env env, napi_value value, uint32_t *out);
// A typed array's own memory: valid until the call returns. null and undefined give length 0.
bool take_bytes(napi_env env, napi_value value, bytes_t *out);
napi_value give_int(napi_env env, int64_t value);

// result or -errno, as a number.
static inline napi_value answer(napi_env env, int64_t result) {
  return give_int(env, result < 0 ? -(int64_t)errno : result);
}

typedef struct {
  const char *name;
  napi_callback call;
} function_t;
bool define(napi_env env, napi_value exports, const function_t *functions, size_t count);

bool define_socket(napi_env env, napi_value exports);
bool define_process(napi_env env, napi_value exports);
bool define_watch(napi_env env, napi_value exports);
#endif
