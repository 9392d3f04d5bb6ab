/* Kills the process at its nth fsync or fdatasync, before or after it was done; preloaded by the crash tests. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <signal.h>
#include <unistd.h>

static int left = 0;
static int after = 0;

void kill_at_sync(int number, int once_done) { left = number; after = once_done; }

static int counted(const char *name, int descriptor)
{
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    int last = left > 0 && --left == 0;
    if (last && !after) kill(getpid(), SIGKILL);
    int result = real(descriptor);
    if (last && after) kill(getpid(), SIGKILL);
    return result;
}

int fsync(int descriptor) { return counted("fsync", descriptor); }
int fdatasync(int descriptor) { return counted("fdatasync", descriptor); }
