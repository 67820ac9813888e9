// The calling process: memory, scheduling, capabilities, namespaces.
#include "nines.h"

#include <dirent.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

// lockRange(address, length): what of it is in memory stays there, and what comes later (MLOCK_ONFAULT).
// For mappings of files only: V8 gives anonymous memory back by madvise, which fails on locked memory, and
// then ends the process. So mlockall is not offered.
static napi_value n_lock_range(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int64_t address, length;
  if (!take(env, info, 2, argv, NULL)) return NULL;
  if (napi_get_value_int64(env, argv[0], &address) != napi_ok || napi_get_value_int64(env, argv[1], &length) != napi_ok)
    return give_int(env, -EINVAL);
  return answer(env, mlock2((void *)(intptr_t)address, (size_t)length, MLOCK_ONFAULT));
}

// schedSet(policy, priority): of the calling thread. Children and threads made by it afterwards inherit it,
// so a parent sets it, spawns, and sets it back.
static napi_value n_sched_set(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int policy, priority;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &policy) || !take_int(env, argv[1], &priority))
    return NULL;
  struct sched_param param = {.sched_priority = priority};
  return answer(env, sched_setscheduler(0, policy, &param));
}

// schedGet(): policy * 256 + priority
static napi_value n_sched_get(napi_env env, napi_callback_info info) {
  (void)info;
  struct sched_param param;
  int policy = sched_getscheduler(0);
  if (policy < 0 || sched_getparam(0, &param) < 0) return answer(env, -1);
  return give_int(env, policy * 256 + param.sched_priority);
}

// prctl(option, a, b): the options that take numbers.
static napi_value n_prctl(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int option, a, b;
  if (!take(env, info, 3, argv, NULL) || !take_int(env, argv[0], &option) || !take_int(env, argv[1], &a) ||
      !take_int(env, argv[2], &b))
    return NULL;
  return answer(env, prctl(option, (unsigned long)a, (unsigned long)b, 0UL, 0UL));
}

// setrlimit(resource, soft, hard)
static napi_value n_setrlimit(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int resource;
  uint32_t soft, hard;
  if (!take(env, info, 3, argv, NULL) || !take_int(env, argv[0], &resource) || !take_u32(env, argv[1], &soft) ||
      !take_u32(env, argv[2], &hard))
    return NULL;
  struct rlimit limit = {.rlim_cur = soft, .rlim_max = hard};
  return answer(env, setrlimit((__rlimit_resource_t)resource, &limit));
}

static int cap_get(struct __user_cap_data_struct data[2]) {
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  return (int)syscall(SYS_capget, &header, data);
}

// capget(room for 6 words): effective, permitted, inheritable, low words and high words in turn.
static napi_value n_capget(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  bytes_t out;
  if (!take(env, info, 1, argv, NULL) || !take_bytes(env, argv[0], &out)) return NULL;
  struct __user_cap_data_struct data[2];
  if (out.length < sizeof data) return give_int(env, -EINVAL);
  int result = cap_get(data);
  if (result == 0) memcpy(out.data, data, sizeof data);
  return answer(env, result);
}

// Capabilities belong to threads, and Node has several from its start. Each one drops its own, in a signal
// handler; system calls only, so that it is safe there. The signal is the one by which glibc itself makes
// setuid hold for all threads: the only one that no thread has blocked (Node's inspector blocks all others).
// glibc keeps programs away from it, so it is set by the kernel's own call, for the time of this one only.
#define EVERY_THREAD 33
struct kernel_sigaction {
  void (*handler)(int);
  unsigned long flags;
  void (*restorer)(void);
  unsigned long mask;
};
static long kernel_sigaction(int number, const struct kernel_sigaction *set, struct kernel_sigaction *old) {
  return syscall(SYS_rt_sigaction, number, set, old, sizeof(unsigned long));
}

static struct {
  uint32_t keep[2];
  sem_t done;
  volatile int failed;
} drop;

static int drop_here(void) {
  struct __user_cap_data_struct data[2];
  if (cap_get(data) != 0) return errno;
  // The bounding set first: dropping from it needs CAP_SETPCAP, which may be among those that go. Without it
  // the bounding set stays, which matters only to programs started later.
  for (int i = 0; i < 64; i++) {
    if (((drop.keep[i / 32] >> (i % 32)) & 1) == 0 && prctl(PR_CAPBSET_DROP, (unsigned long)i, 0, 0, 0) != 0) {
      if (errno == EINVAL) break;  // past the last capability of this kernel
      if (errno == EPERM) break;
    }
  }
  for (int i = 0; i < 2; i++) {
    data[i].permitted &= drop.keep[i];
    data[i].effective &= drop.keep[i];
    data[i].inheritable &= drop.keep[i];
  }
  struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  return syscall(SYS_capset, &header, data) == 0 ? 0 : errno;
}

static void on_drop(int signal) {
  (void)signal;
  int saved = errno;
  int failed = drop_here();
  if (failed != 0) drop.failed = failed;
  sem_post(&drop.done);
  errno = saved;
}

// dropCapabilities(keep low word, keep high word): in all threads; for good.
static napi_value n_drop_capabilities(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  if (!take(env, info, 2, argv, NULL) || !take_u32(env, argv[0], &drop.keep[0]) ||
      !take_u32(env, argv[1], &drop.keep[1]))
    return NULL;
  // glibc fills in the restorer that x86-64 needs: borrowed from an ordinary signal's action.
  struct sigaction action = {.sa_handler = on_drop, .sa_flags = SA_RESTART}, ordinary;
  struct kernel_sigaction ours, before;
  sigfillset(&action.sa_mask);
  drop.failed = 0;
  if (sem_init(&drop.done, 0, 0) != 0 || sigaction(SIGRTMAX, &action, &ordinary) != 0 ||
      kernel_sigaction(SIGRTMAX, NULL, &ours) != 0 || sigaction(SIGRTMAX, &ordinary, NULL) != 0 ||
      kernel_sigaction(EVERY_THREAD, &ours, &before) != 0)
    return answer(env, -1);
  pid_t process = getpid(), self = (pid_t)syscall(SYS_gettid);
  DIR *tasks = opendir("/proc/self/task");
  int failed = tasks == NULL ? errno : 0;
  int asked = 0;
  for (struct dirent *entry; tasks != NULL && (entry = readdir(tasks)) != NULL;) {
    pid_t thread = (pid_t)atoi(entry->d_name);
    if (thread <= 0 || thread == self) continue;
    if (syscall(SYS_tgkill, process, thread, EVERY_THREAD) == 0) asked++;
    else if (errno != ESRCH) failed = errno;
  }
  if (tasks != NULL) closedir(tasks);
  struct timespec until;
  clock_gettime(CLOCK_REALTIME, &until);
  until.tv_sec += 2;
  for (int i = 0; i < asked; i++) {
    while (sem_timedwait(&drop.done, &until) != 0) {
      if (errno == EINTR) continue;
      failed = errno;
      i = asked;
      break;
    }
  }
  int here = drop_here();
  if (failed == 0) failed = here != 0 ? here : drop.failed;
  // A thread that was late would be killed by the signal's default action: the handler stays then.
  if (failed != ETIMEDOUT) {
    kernel_sigaction(EVERY_THREAD, &before, NULL);
    sem_destroy(&drop.done);
  }
  return give_int(env, -failed);
}

// setns(fd, type): the calling thread; children made by it afterwards inherit it.
static napi_value n_setns(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, type;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &fd) || !take_int(env, argv[1], &type)) return NULL;
  return answer(env, setns(fd, type));
}

static napi_value n_unshare(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int flags;
  if (!take(env, info, 1, argv, NULL) || !take_int(env, argv[0], &flags)) return NULL;
  return answer(env, unshare(flags));
}

bool define_process(napi_env env, napi_value exports) {
  static const function_t functions[] = {
      {"lockRange", n_lock_range},   {"schedSet", n_sched_set}, {"schedGet", n_sched_get},
      {"prctl", n_prctl},         {"setrlimit", n_setrlimit}, {"capget", n_capget},
      {"dropCapabilities", n_drop_capabilities},
      {"setns", n_setns},         {"unshare", n_unshare},
  };
  return define(env, exports, functions, sizeof functions / sizeof functions[0]);
}
