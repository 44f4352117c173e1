/* rename(2) as slow as a file server's: loaded before the C library, it waits before and after the real one.

RENAME_SECONDS is how long each time. With RENAME_TO, a pattern for the new name, and RENAME_KILLS, which is `before` or
`after`, the process is killed there. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void wait_and_maybe_die(const char *moment, const char *to)
{
    const char *seconds = getenv("RENAME_SECONDS"), *pattern = getenv("RENAME_TO"), *kills = getenv("RENAME_KILLS");
    const char *slash = strrchr(to, '/');
    if (seconds)
        usleep((useconds_t)(atof(seconds) * 1e6));
    if (pattern && kills && strcmp(kills, moment) == 0 && fnmatch(pattern, slash ? slash + 1 : to, 0) == 0)
        raise(SIGKILL);
}

int rename(const char *from, const char *to)
{
    int (*real)(const char *, const char *) = (int (*)(const char *, const char *))dlsym(RTLD_NEXT, "rename");
    wait_and_maybe_die("before", to);
    int result = real(from, to);
    wait_and_maybe_die("after", to);
    return result;
}
