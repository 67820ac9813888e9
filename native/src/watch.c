// Readiness of a descriptor on Node's own loop. The few symbols of libuv's stable 1.x ABI that are needed
// are declared here, so that the build needs N-API's headers alone (uv.h is in no npm package).
//
// A watch owns its libuv handle and nothing else: not the descriptor. While started it holds its callback
// and keeps the process alive; stopped it is ordinary garbage.
#include "nines.h"

#include <stdlib.h>

typedef struct uv_handle_s uv_handle_t;
typedef void (*uv_close_cb)(uv_handle_t *);
typedef void (*uv_poll_cb)(uv_handle_t *, int status, int events);
extern size_t uv_handle_size(int type);
extern void *uv_handle_get_data(const uv_handle_t *);
extern void uv_handle_set_data(uv_handle_t *, void *);
extern int uv_poll_init(struct uv_loop_s *, uv_handle_t *, int fd);
extern int uv_poll_start(uv_handle_t *, int events, uv_poll_cb);
extern int uv_poll_stop(uv_handle_t *);
extern void uv_close(uv_handle_t *, uv_close_cb);
extern void uv_ref(uv_handle_t *);
extern void uv_unref(uv_handle_t *);
enum { UV_POLL = 8 };  // uv_handle_type, unchanged through 1.x

typedef struct watch watch_t;

// One per environment (main thread or worker): the watches that are open, to be closed with it.
typedef struct {
  watch_t *first;
  napi_async_cleanup_hook_handle hook;
  bool ending;
  size_t closing;
} room_t;

struct watch {
  napi_env env;
  room_t *room;
  watch_t *next, *previous;
  uv_handle_t *handle;
  napi_async_context context;
  napi_ref callback;  // only while started
  bool closed;        // uv_close was called
  bool handle_gone;   // and has called back
  bool object_gone;   // the JavaScript side was collected
};

static void maybe_free(watch_t *watch) {
  if (watch->handle_gone && watch->object_gone) free(watch);
}

static void on_closed(uv_handle_t *handle) {
  watch_t *watch = uv_handle_get_data(handle);
  room_t *room = watch->room;
  watch->handle = NULL;
  watch->handle_gone = true;
  free(handle);
  maybe_free(watch);
  if (--room->closing == 0 && room->ending) {
    napi_remove_async_cleanup_hook(room->hook);
    free(room);
  }
}

static void release_callback(watch_t *watch) {
  if (watch->callback != NULL) napi_delete_reference(watch->env, watch->callback);
  watch->callback = NULL;
}

static void shut(watch_t *watch) {
  if (watch->closed) return;
  watch->closed = true;
  release_callback(watch);
  if (watch->context != NULL) napi_async_destroy(watch->env, watch->context);
  watch->context = NULL;
  if (watch->previous != NULL) watch->previous->next = watch->next;
  else watch->room->first = watch->next;
  if (watch->next != NULL) watch->next->previous = watch->previous;
  watch->room->closing++;
  uv_poll_stop(watch->handle);
  uv_close(watch->handle, on_closed);
}

static void on_environment_end(napi_async_cleanup_hook_handle hook, void *data) {
  room_t *room = data;
  (void)hook;
  room->ending = true;
  while (room->first != NULL) shut(room->first);
  if (room->closing == 0) {
    napi_remove_async_cleanup_hook(room->hook);
    free(room);
  }
}

static void on_collected(napi_env env, void *data, void *hint) {
  (void)env, (void)hint;
  watch_t *watch = data;
  watch->object_gone = true;
  // After the environment's end the room is gone; the watch was shut with it.
  if (!watch->closed) shut(watch);
  maybe_free(watch);
}

static void on_ready(uv_handle_t *handle, int status, int events) {
  watch_t *watch = uv_handle_get_data(handle);
  napi_env env = watch->env;
  if (watch->callback == NULL) return;
  napi_handle_scope scope;
  if (napi_open_handle_scope(env, &scope) != napi_ok) return;
  napi_value callback, global, argument;
  if (napi_get_reference_value(env, watch->callback, &callback) == napi_ok && callback != NULL &&
      napi_get_global(env, &global) == napi_ok &&
      napi_create_int32(env, status < 0 ? status : events, &argument) == napi_ok &&
      napi_make_callback(env, watch->context, global, callback, 1, &argument, NULL) == napi_pending_exception) {
    napi_value thrown;
    if (napi_get_and_clear_last_exception(env, &thrown) == napi_ok) napi_fatal_exception(env, thrown);
  }
  napi_close_handle_scope(env, scope);
}

static bool take_watch(napi_env env, napi_value value, watch_t **out) {
  if (napi_get_value_external(env, value, (void **)out) == napi_ok) return true;
  napi_throw_type_error(env, "ERR_INVALID_ARG_TYPE", "a watch is expected");
  return false;
}

// watchOpen(fd): a watch, or -errno
static napi_value n_watch_open(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  void *data;
  int fd;
  if (!take(env, info, 1, argv, &data) || !take_int(env, argv[0], &fd)) return NULL;
  room_t *room = data;
  struct uv_loop_s *loop;
  if (napi_get_uv_event_loop(env, &loop) != napi_ok) return give_int(env, -ENOSYS);
  watch_t *watch = calloc(1, sizeof *watch);
  uv_handle_t *handle = calloc(1, uv_handle_size(UV_POLL));
  int error = watch == NULL || handle == NULL ? -ENOMEM : uv_poll_init(loop, handle, fd);
  if (error != 0) {
    // A handle that could not be initialised is not on the loop, and is not closed.
    free(watch);
    free(handle);
    return give_int(env, error);
  }
  watch->env = env;
  watch->room = room;
  watch->handle = handle;
  uv_handle_set_data(handle, watch);
  watch->next = room->first;
  if (room->first != NULL) room->first->previous = watch;
  room->first = watch;
  napi_value name, object;
  if (napi_create_string_utf8(env, "nines:watch", NAPI_AUTO_LENGTH, &name) != napi_ok ||
      napi_async_init(env, NULL, name, &watch->context) != napi_ok ||
      napi_create_external(env, watch, on_collected, NULL, &object) != napi_ok) {
    watch->object_gone = true;
    shut(watch);
    return give_int(env, -ENOMEM);
  }
  return object;
}

// watchStart(watch, events, callback): events as libuv has them: 1 readable, 2 writable. Replaces what was started.
static napi_value n_watch_start(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  watch_t *watch;
  int events;
  if (!take(env, info, 3, argv, NULL) || !take_watch(env, argv[0], &watch) || !take_int(env, argv[1], &events))
    return NULL;
  if (watch->closed) return give_int(env, -EBADF);
  napi_ref callback;
  if (napi_create_reference(env, argv[2], 1, &callback) != napi_ok) return give_int(env, -EINVAL);
  release_callback(watch);
  watch->callback = callback;
  int error = uv_poll_start(watch->handle, events, on_ready);
  if (error != 0) release_callback(watch);
  return give_int(env, error);
}

static napi_value n_watch_stop(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  watch_t *watch;
  if (!take(env, info, 1, argv, NULL) || !take_watch(env, argv[0], &watch)) return NULL;
  if (watch->closed) return give_int(env, 0);
  release_callback(watch);
  return give_int(env, uv_poll_stop(watch->handle));
}

// watchClose(watch): the descriptor may be closed right after.
static napi_value n_watch_close(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  watch_t *watch;
  if (!take(env, info, 1, argv, NULL) || !take_watch(env, argv[0], &watch)) return NULL;
  shut(watch);
  return give_int(env, 0);
}

// watchRef(watch, on): whether it keeps the process alive while started.
static napi_value n_watch_ref(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  watch_t *watch;
  int on;
  if (!take(env, info, 2, argv, NULL) || !take_watch(env, argv[0], &watch) || !take_int(env, argv[1], &on))
    return NULL;
  if (!watch->closed) (on ? uv_ref : uv_unref)(watch->handle);
  return give_int(env, 0);
}

bool define_watch(napi_env env, napi_value exports) {
  room_t *room = calloc(1, sizeof *room);
  if (room == NULL || napi_add_async_cleanup_hook(env, on_environment_end, room, &room->hook) != napi_ok) return false;
  napi_value open;
  if (napi_create_function(env, "watchOpen", NAPI_AUTO_LENGTH, n_watch_open, room, &open) != napi_ok ||
      napi_set_named_property(env, exports, "watchOpen", open) != napi_ok)
    return false;
  static const function_t functions[] = {
      {"watchStart", n_watch_start},
      {"watchStop", n_watch_stop},
      {"watchClose", n_watch_close},
      {"watchRef", n_watch_ref},
  };
  return define(env, exports, functions, sizeof functions / sizeof functions[0]);
}
