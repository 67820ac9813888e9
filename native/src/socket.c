// Sockets: one function per system call. Addresses, options and control data are bytes made in TypeScript.
#include "nines.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <net/if.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

// Messages of one recvmmsg or sendmmsg; the arrays live on the stack (about 100 bytes each).
#define BATCH 256

// socket(domain, type, protocol): fd
static napi_value n_socket(napi_env env, napi_callback_info info) {
  napi_value argv[3];
  int domain, type, protocol;
  if (!take(env, info, 3, argv, NULL) || !take_int(env, argv[0], &domain) || !take_int(env, argv[1], &type) ||
      !take_int(env, argv[2], &protocol))
    return NULL;
  return answer(env, socket(domain, type, protocol));
}

static napi_value n_close(napi_env env, napi_callback_info info) {
  napi_value argv[1];
  int fd;
  if (!take(env, info, 1, argv, NULL) || !take_int(env, argv[0], &fd)) return NULL;
  return answer(env, close(fd));
}

// The two calls that take a descriptor and an address.
typedef int (*with_address)(int, const struct sockaddr *, socklen_t);
static napi_value address_call(napi_env env, napi_callback_info info, with_address call) {
  napi_value argv[2];
  int fd;
  bytes_t address;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &fd) || !take_bytes(env, argv[1], &address))
    return NULL;
  return answer(env, call(fd, (const struct sockaddr *)address.data, (socklen_t)address.length));
}
static napi_value n_bind(napi_env env, napi_callback_info info) { return address_call(env, info, bind); }
static napi_value n_connect(napi_env env, napi_callback_info info) { return address_call(env, info, connect); }

static napi_value n_listen(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, backlog;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &fd) || !take_int(env, argv[1], &backlog))
    return NULL;
  return answer(env, listen(fd, backlog));
}

// setsockopt(fd, level, name, value bytes)
static napi_value n_setsockopt(napi_env env, napi_callback_info info) {
  napi_value argv[4];
  int fd, level, name;
  bytes_t value;
  if (!take(env, info, 4, argv, NULL) || !take_int(env, argv[0], &fd) || !take_int(env, argv[1], &level) ||
      !take_int(env, argv[2], &name) || !take_bytes(env, argv[3], &value))
    return NULL;
  return answer(env, setsockopt(fd, level, name, value.data, (socklen_t)value.length));
}

// getsockopt(fd, level, name, room for the value): its length
static napi_value n_getsockopt(napi_env env, napi_callback_info info) {
  napi_value argv[4];
  int fd, level, name;
  bytes_t value;
  if (!take(env, info, 4, argv, NULL) || !take_int(env, argv[0], &fd) || !take_int(env, argv[1], &level) ||
      !take_int(env, argv[2], &name) || !take_bytes(env, argv[3], &value))
    return NULL;
  socklen_t length = (socklen_t)value.length;
  int result = getsockopt(fd, level, name, value.data, &length);
  return answer(env, result < 0 ? result : (int64_t)length);
}

// getsockname(fd, room for the address): its length
static napi_value n_getsockname(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd;
  bytes_t address;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &fd) || !take_bytes(env, argv[1], &address))
    return NULL;
  socklen_t length = (socklen_t)address.length;
  int result = getsockname(fd, (struct sockaddr *)address.data, &length);
  return answer(env, result < 0 ? result : (int64_t)length);
}

// attachFilter(fd, instructions of 8 bytes): struct sock_fprog holds a pointer, so it cannot be made outside.
static napi_value n_attach_filter(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd;
  bytes_t code;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &fd) || !take_bytes(env, argv[1], &code)) return NULL;
  struct sock_fprog program = {.len = (unsigned short)(code.length / sizeof(struct sock_filter)),
                               .filter = (struct sock_filter *)code.data};
  return answer(env, setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program));
}

// cloexec(fd, on): a descriptor that a child shall inherit is opened with it and set off for the spawn.
static napi_value n_cloexec(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, on;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &fd) || !take_int(env, argv[1], &on)) return NULL;
  return answer(env, fcntl(fd, F_SETFD, on ? FD_CLOEXEC : 0));
}

// flock(fd, operation)
static napi_value n_flock(napi_env env, napi_callback_info info) {
  napi_value argv[2];
  int fd, operation;
  if (!take(env, info, 2, argv, NULL) || !take_int(env, argv[0], &fd) || !take_int(env, argv[1], &operation))
    return NULL;
  return answer(env, flock(fd, operation));
}

// sendmsg(fd, data, flags, address or null, control data or null): bytes sent
static napi_value n_sendmsg(napi_env env, napi_callback_info info) {
  napi_value argv[5];
  int fd, flags;
  bytes_t data, name, control;
  if (!take(env, info, 5, argv, NULL) || !take_int(env, argv[0], &fd) || !take_bytes(env, argv[1], &data) ||
      !take_int(env, argv[2], &flags) || !take_bytes(env, argv[3], &name) || !take_bytes(env, argv[4], &control))
    return NULL;
  struct iovec piece = {.iov_base = data.data, .iov_len = data.length};
  struct msghdr message = {.msg_name = name.length ? name.data : NULL,
                           .msg_namelen = (socklen_t)name.length,
                           .msg_iov = &piece,
                           .msg_iovlen = 1,
                           .msg_control = control.length ? control.data : NULL,
                           .msg_controllen = control.length};
  return answer(env, sendmsg(fd, &message, flags));
}

// recvmmsg(fd, data, slot, names, nameSlot, controls, controlSlot, meta, flags): messages received.
// Message i lies at data[i * slot], its source at names[i * nameSlot], its control data at controls[i * controlSlot];
// meta[4i ..] = length (with MSG_TRUNC in flags, the real one), length of the address, of the control data, msg_flags.
static napi_value n_recvmmsg(napi_env env, napi_callback_info info) {
  napi_value argv[9];
  int fd, slot, name_slot, control_slot, flags;
  bytes_t data, names, controls, meta;
  if (!take(env, info, 9, argv, NULL) || !take_int(env, argv[0], &fd) || !take_bytes(env, argv[1], &data) ||
      !take_int(env, argv[2], &slot) || !take_bytes(env, argv[3], &names) || !take_int(env, argv[4], &name_slot) ||
      !take_bytes(env, argv[5], &controls) || !take_int(env, argv[6], &control_slot) ||
      !take_bytes(env, argv[7], &meta) || !take_int(env, argv[8], &flags))
    return NULL;
  if (slot <= 0 || name_slot < 0 || control_slot < 0) return give_int(env, -EINVAL);
  size_t count = data.length / (size_t)slot;
  if (name_slot > 0 && names.length / (size_t)name_slot < count) count = names.length / (size_t)name_slot;
  if (control_slot > 0 && controls.length / (size_t)control_slot < count)
    count = controls.length / (size_t)control_slot;
  if (meta.length / 16 < count) count = meta.length / 16;
  if (count > BATCH) count = BATCH;
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  memset(messages, 0, count * sizeof messages[0]);
  for (size_t i = 0; i < count; i++) {
    pieces[i].iov_base = data.data + i * (size_t)slot;
    pieces[i].iov_len = (size_t)slot;
    struct msghdr *header = &messages[i].msg_hdr;
    header->msg_iov = &pieces[i];
    header->msg_iovlen = 1;
    if (name_slot > 0) {
      header->msg_name = names.data + i * (size_t)name_slot;
      header->msg_namelen = (socklen_t)name_slot;
    }
    if (control_slot > 0) {
      header->msg_control = controls.data + i * (size_t)control_slot;
      header->msg_controllen = (size_t)control_slot;
    }
  }
  int received = recvmmsg(fd, messages, (unsigned)count, flags, NULL);
  int32_t *out = (int32_t *)meta.data;
  for (int i = 0; i < received; i++) {
    out[4 * i] = (int32_t)messages[i].msg_len;
    out[4 * i + 1] = (int32_t)messages[i].msg_hdr.msg_namelen;
    out[4 * i + 2] = (int32_t)messages[i].msg_hdr.msg_controllen;
    out[4 * i + 3] = messages[i].msg_hdr.msg_flags;
  }
  return answer(env, received);
}

// sendmmsg(fd, data, names, nameSlot, controls, controlSlot, meta, count, flags): messages sent.
// meta[4i ..] = offset in data, length, length of the address at names[i * nameSlot], of the control data.
static napi_value n_sendmmsg(napi_env env, napi_callback_info info) {
  napi_value argv[9];
  int fd, name_slot, control_slot, wanted, flags;
  bytes_t data, names, controls, meta;
  if (!take(env, info, 9, argv, NULL) || !take_int(env, argv[0], &fd) || !take_bytes(env, argv[1], &data) ||
      !take_bytes(env, argv[2], &names) || !take_int(env, argv[3], &name_slot) ||
      !take_bytes(env, argv[4], &controls) || !take_int(env, argv[5], &control_slot) ||
      !take_bytes(env, argv[6], &meta) || !take_int(env, argv[7], &wanted) || !take_int(env, argv[8], &flags))
    return NULL;
  if (wanted < 0 || name_slot < 0 || control_slot < 0 || meta.length / 16 < (size_t)wanted)
    return give_int(env, -EINVAL);
  size_t count = wanted > BATCH ? BATCH : (size_t)wanted;
  struct mmsghdr messages[BATCH];
  struct iovec pieces[BATCH];
  memset(messages, 0, count * sizeof messages[0]);
  const int32_t *in = (const int32_t *)meta.data;
  for (size_t i = 0; i < count; i++) {
    int32_t offset = in[4 * i], length = in[4 * i + 1], name = in[4 * i + 2], control = in[4 * i + 3];
    // What lies outside the arrays is a bug of the caller, answered as the kernel would.
    if (offset < 0 || length < 0 || (size_t)offset + (size_t)length > data.length || name < 0 || name > name_slot ||
        control < 0 || control > control_slot || (name > 0 && (i + 1) * (size_t)name_slot > names.length) ||
        (control > 0 && (i + 1) * (size_t)control_slot > controls.length))
      return give_int(env, -EFAULT);
    pieces[i].iov_base = data.data + offset;
    pieces[i].iov_len = (size_t)length;
    struct msghdr *header = &messages[i].msg_hdr;
    header->msg_iov = &pieces[i];
    header->msg_iovlen = 1;
    if (name > 0) {
      header->msg_name = names.data + i * (size_t)name_slot;
      header->msg_namelen = (socklen_t)name;
    }
    if (control > 0) {
      header->msg_control = controls.data + i * (size_t)control_slot;
      header->msg_controllen = (size_t)control;
    }
  }
  return answer(env, sendmmsg(fd, messages, (unsigned)count, flags));
}

bool define_socket(napi_env env, napi_value exports) {
  static const function_t functions[] = {
      {"socket", n_socket},         {"close", n_close},           {"bind", n_bind},
      {"connect", n_connect},       {"listen", n_listen},         {"setsockopt", n_setsockopt},
      {"getsockopt", n_getsockopt}, {"getsockname", n_getsockname}, {"attachFilter", n_attach_filter},
      {"cloexec", n_cloexec},       {"flock", n_flock},           {"sendmsg", n_sendmsg},
      {"recvmmsg", n_recvmmsg},     {"sendmmsg", n_sendmmsg},
  };
  return define(env, exports, functions, sizeof functions / sizeof functions[0]);
}
