/** Where Debian's libnginx-mod-stream puts it. */
export const STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so";
