/* At its nth fsync or fdatasync, kills the process, before or after it was done, or has the disk be full for a while;
   preloaded by the crash tests. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <unistd.h>

static int left = 0;
static int after = 0;
static int until_full = 0;
static int full_for = 0;

void kill_at_sync(int number, int once_done) { left = number; after = once_done; }

void full_at_sync(int number, int times) { until_full = number; full_for = times; }

static int is_full(void)
{
    if (until_full > 1) { until_full--; return 0; }
    if (until_full == 0 || full_for == 0) return 0;
    full_for--;
    return 1;
}

static int counted(const char *name, int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    if (is_full()) { errno = ENOSPC; return -1; }
    int last = left > 0 && --left == 0;
    if (last && !after) kill(getpid(), SIGKILL);
    int result = real(descriptor);
    if (last && after) kill(getpid(), SIGKILL);
    return result;
}

int fsync(int descriptor) { return counted("fsync", descriptor); }
int fdatasync(int descriptor) { return counted("fdatasync", descriptor); }
