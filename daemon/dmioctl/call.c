/* SPDX-License-Identifier: LGPL-2.1-or-later */

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "dmioctl/call.h"
#include "util/macros.h"

/* More than any daemon says; only there so that a wrong peer cannot fill the memory. */
#define REPLY_MAX (256u << 20)
#define REPLY_STEP (64u << 10)

struct control {
        int fd;
        char *buffer; /* what has been received and not yet been taken */
        size_t length;
        size_t size;
};

struct control *control_free(struct control *control)
{
        if (!control)
                return NULL;
        close_fd(control->fd);
        free(control->buffer);
        free(control);
        return NULL;
}

int control_connect(const char *path, struct control **ret)
{
        DMIO_CLEANUP(control_freep) struct control *control = NULL;
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int r;

        if (strlen(path) >= sizeof(address.sun_path))
                return -ENAMETOOLONG;
        strcpy(address.sun_path, path);

        control = calloc(1, sizeof(*control));
        if (!control)
                return -ENOMEM;
        control->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (control->fd < 0)
                return -errno;

        do
                r = connect(control->fd, (const struct sockaddr *)&address, sizeof(address));
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return -errno;

        *ret = DMIO_TAKE(control);
        return 0;
}

int control_get_fd(const struct control *control)
{
        return control->fd;
}

static int control_send(struct control *control, const char *text, size_t length, const int *fds,
                        unsigned int n_fds)
{
        union {
                char bytes[CMSG_SPACE(CONTROL_MAX_DESCRIPTORS * sizeof(int))];
                struct cmsghdr align;
        } ancillary = {};
        struct iovec iov = { .iov_base = (char *)text, .iov_len = length };
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (n_fds > CONTROL_MAX_DESCRIPTORS)
                return -E2BIG;
        if (n_fds > 0) {
                struct cmsghdr *header = &ancillary.align;

                header->cmsg_level = SOL_SOCKET;
                header->cmsg_type = SCM_RIGHTS;
                header->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
                memcpy(CMSG_DATA(header), fds, n_fds * sizeof(int));
                message.msg_control = &ancillary;
                message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        }

        while (iov.iov_len > 0) {
                ssize_t n = sendmsg(control->fd, &message, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                iov.iov_base = (char *)iov.iov_base + n;
                iov.iov_len -= (size_t)n;
                message.msg_control = NULL;
                message.msg_controllen = 0;
        }
        return 0;
}

static int control_fill(struct control *control)
{
        ssize_t n;

        if (control->size - control->length < REPLY_STEP) {
                size_t size = MAX(2 * control->size, (size_t)REPLY_STEP);
                char *buffer;

                if (size > REPLY_MAX)
                        return -EBADMSG;
                buffer = realloc(control->buffer, size);
                if (!buffer)
                        return -ENOMEM;
                control->buffer = buffer;
                control->size = size;
        }
        do
                n = recv(control->fd, control->buffer + control->length,
                         control->size - control->length, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        if (n == 0)
                return control->length > 0 ? -EBADMSG : -ECONNRESET;

        control->length += (size_t)n;
        return 0;
}

/* The end of the first message in the buffer, looked for from @seen on; NULL if there is none. */
static char *find_end(struct control *control, size_t seen)
{
        return control->length > seen ? memchr(control->buffer + seen, 0, control->length - seen)
                                      : NULL;
}

/* Take the first message, which ends at @end. */
static int control_parse(struct control *control, char *end, json_t **ret)
{
        json_t *reply;

        reply = json_loadb(control->buffer, (size_t)(end - control->buffer), 0, NULL);
        control->length -= (size_t)(end + 1 - control->buffer);
        memmove(control->buffer, end + 1, control->length);
        if (!json_is_object(reply)) {
                json_decref(reply);
                return -EBADMSG;
        }

        *ret = reply;
        return 0;
}

static int control_receive(struct control *control, json_t **ret)
{
        size_t seen = 0;
        char *end;
        int r;

        while (!(end = find_end(control, seen))) {
                seen = control->length;
                r = control_fill(control);
                if (r < 0)
                        return r;
        }
        return control_parse(control, end, ret);
}

int control_call_more(struct control *control, const char *method)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        int length;

        length = asprintf(&text, "{\"method\":\"%s\",\"more\":true}", method);
        if (length < 0) {
                text = NULL;
                return -ENOMEM;
        }
        return control_send(control, text, (size_t)length + 1, NULL, 0);
}

int control_receive_some(struct control *control)
{
        return control_fill(control);
}

bool control_take(struct control *control, json_t **ret, int *ret_error)
{
        char *end = find_end(control, 0);
        int r;

        if (!end)
                return false;
        r = control_parse(control, end, ret);
        if (r < 0)
                *ret_error = r;
        return r == 0;
}

int control_call(struct control *control, const char *method, json_t *parameters, const int *fds,
                 unsigned int n_fds, json_t **ret)
{
        DMIO_CLEANUP(freep) char *text = NULL;
        json_t *call;
        int r, sent;

        call = json_pack("{s:s, s:O*}", "method", method, "parameters", parameters);
        if (!call)
                return -ENOMEM;
        text = json_dumps(call, JSON_COMPACT);
        json_decref(call);
        if (!text)
                return -ENOMEM;

        /* A daemon that refuses a call half way says why before it hangs up: hear it first. */
        sent = control_send(control, text, strlen(text) + 1, fds, n_fds);
        if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
                return sent;
        r = control_receive(control, ret);
        return r == -ECONNRESET && sent < 0 ? sent : r;
}
