// The module: arguments in, numbers out.
#include "nines.h"

static bool complain(napi_env env, const char *text) {
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", text);
  return false;
}

bool take(napi_env env, napi_callback_info info, size_t wanted, napi_value *argv, void **data) {
  size_t count = wanted;
  if (napi_get_cb_info(env, info, &count, argv, NULL, data) != napi_ok || count < wanted)
    return complain(env, "too few arguments");
  return true;
}

bool take_int(napi_env env, napi_value value, int *out) {
  int32_t number;
  if (napi_get_value_int32(env, value, &number) != napi_ok) return complain(env, "a number is expected");
  *out = number;
  return true;
}

bool take_u32(napi_env env, napi_value value, uint32_t *out) {
  if (napi_get_value_uint32(env, value, out) != napi_ok) return complain(env, "a number is expected");
  return true;
}

bool take_bytes(napi_env env, napi_value value, bytes_t *out) {
  out->data = NULL;
  out->length = 0;
  bool typed = false;
  if (napi_is_typedarray(env, value, &typed) != napi_ok) return complain(env, "bytes are expected");
  if (!typed) {
    napi_valuetype type;
    if (napi_typeof(env, value, &type) == napi_ok && (type == napi_undefined || type == napi_null)) return true;
    return complain(env, "a typed array is expected");
  }
  napi_typedarray_type type;
  size_t length;
  void *data;
  if (napi_get_typedarray_info(env, value, &type, &length, &data, NULL, NULL) != napi_ok)
    return complain(env, "a typed array is expected");
  // The length counts elements: only bytes and 32-bit words are passed.
  switch (type) {
    case napi_int8_array:
    case napi_uint8_array:
    case napi_uint8_clamped_array:
      break;
    case napi_int32_array:
    case napi_uint32_array:
      length *= 4;
      break;
    default:
      return complain(env, "a Uint8Array or Int32Array is expected");
  }
  out->data = data;
  out->length = length;
  return true;
}

napi_value give_int(napi_env env, int64_t value) {
  napi_value number = NULL;
  napi_create_int64(env, value, &number);
  return number;
}

bool define(napi_env env, napi_value exports, const function_t *functions, size_t count) {
  for (size_t i = 0; i < count; i++) {
    napi_value made;
    if (napi_create_function(env, functions[i].name, NAPI_AUTO_LENGTH, functions[i].call, NULL, &made) != napi_ok ||
        napi_set_named_property(env, exports, functions[i].name, made) != napi_ok)
      return false;
  }
  return true;
}

NAPI_MODULE_INIT() {
  if (!define_socket(env, exports) || !define_process(env, exports) || !define_watch(env, exports))
    napi_throw_error(env, NULL, "the native part could not be set up");
  return exports;
}
