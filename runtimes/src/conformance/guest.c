/* What the conformance suite runs in the worker's place: does what SCRIPT says. Static, so that it runs in any image. */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <mqueue.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void on_term(int signal) {
    (void)signal;
    _exit(42);
}

/* Says something where the test can read it: in the state folder. Written beside and renamed: there whole or not at all. */
static void report(const char *text) {
    char path[4096], fresh[4200];
    snprintf(path, sizeof path, "%s/report", getenv("REKINDLE_STATE"));
    snprintf(fresh, sizeof fresh, "%s.new", path);
    FILE *file = fopen(fresh, "w");
    if (!file) {
        perror(fresh);
        _exit(99);
    }
    fputs(text, file);
    fclose(file);
    rename(fresh, path);
}

static void sleep_for_ever(void) {
    for (;;) pause();
}

static void touch(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0644);
    report(fd < 0 ? strerror(errno) : "written");
}

static void touch_in_sock(void) {
    /* redis+unix:///path/of/sock/redis.sock */
    char path[4096];
    snprintf(path, sizeof path, "%s", getenv("REDIS_URL") + strlen("redis+unix://"));
    strcpy(strrchr(path, '/'), "/new");
    touch(path);
}

static void tell_environment(void) {
    static char text[1 << 16];
    for (char **entry = environ; *entry; entry++) {
        strncat(text, *entry, sizeof text - strlen(text) - 2);
        strcat(text, "\n");
    }
    report(text);
}

/* The names of its interfaces, and whether a connection to 127.0.0.1 comes about. */
static void tell_network(void) {
    char text[4096] = "";
    struct if_nameindex *all = if_nameindex();
    for (struct if_nameindex *one = all; one && one->if_name; one++) {
        strncat(text, one->if_name, 64);
        strcat(text, " ");
    }
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    int server = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    int wrong = bind(server, (struct sockaddr *)&address, length) || listen(server, 1) ||
                getsockname(server, (struct sockaddr *)&address, &length) ||
                connect(client, (struct sockaddr *)&address, length);
    strcat(text, wrong ? strerror(errno) : "connected");
    report(text);
}

/* A tree of processes that will not end by themselves, one of them in a session of its own. */
static void fork_some(void) {
    signal(SIGTERM, SIG_IGN);
    if (fork() == 0) {
        setsid();
        sleep_for_ever();
    }
    if (fork() == 0) {
        if (fork() == 0) sleep_for_ever();
        sleep_for_ever();
    }
    report("forked");
    sleep_for_ever();
}

static void eat_memory(void) {
    for (;;) {
        char *block = malloc(1 << 20);
        if (!block) _exit(12);
        memset(block, 1, 1 << 20);
    }
}

static char told[1 << 17];

static void tell(const char *name, const char *what) {
    snprintf(told + strlen(told), sizeof told - strlen(told), "%s=%s\n", name, what);
}

static void tell_number(const char *name, long number) {
    char text[32];
    snprintf(text, sizeof text, "%ld", number);
    tell(name, text);
}

static void tell_mounts(void) {
    FILE *file = fopen("/proc/self/mountinfo", "r");
    size_t length = fread(told, 1, sizeof told - 1, file);
    told[length] = 0;
    report(told);
}

/* Each with arguments that harm nobody where it is allowed. */
static void tell_calls(void) {
    static const struct {
        const char *name;
        long number, a, b;
    } calls[] = {
        {"mount", SYS_mount, 0, 0},
        {"umount2", SYS_umount2, 0, 0},
        {"pivot_root", SYS_pivot_root, 0, 0},
        {"unshare-user", SYS_unshare, CLONE_NEWUSER, 0},
        {"clone-user", SYS_clone, CLONE_NEWUSER, 0},
        {"setns", SYS_setns, -1, 0},
        {"bpf", SYS_bpf, 0, 0},
        {"keyctl", SYS_keyctl, 0, 0},
        {"add_key", SYS_add_key, 0, 0},
        {"request_key", SYS_request_key, 0, 0},
        {"userfaultfd", SYS_userfaultfd, 0, 0},
        {"perf_event_open", SYS_perf_event_open, 0, 0},
        {"kexec_load", SYS_kexec_load, 0, 0},
        {"io_uring_setup", SYS_io_uring_setup, 1, 0},
        {"init_module", SYS_init_module, 0, 0},
        {"open_by_handle_at", SYS_open_by_handle_at, -1, 0},
        {"vsock", SYS_socket, 40, SOCK_STREAM},
        {"ptrace-init", SYS_ptrace, 16 /* PTRACE_ATTACH */, 1},
    };
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        errno = 0;
        long result = syscall(calls[i].number, calls[i].a, calls[i].b, 0, 0, 0);
        if (result == 0 && calls[i].number == SYS_clone) _exit(0);
        tell(calls[i].name, result < 0 ? strerror(errno) : "done");
    }
    report(told);
}

static void tell_limits(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_CORE, &limit);
    tell_number("core", limit.rlim_max);
    getrlimit(RLIMIT_NOFILE, &limit);
    tell_number("nofile", limit.rlim_max);
    DIR *all = opendir("/proc/self/fd");
    for (struct dirent *one; (one = readdir(all));)
        if (*one->d_name != '.' && atoi(one->d_name) != dirfd(all)) tell("fd", one->d_name);
    tell_number("uid", getuid());
    tell_number("pid", getpid());
    report(told);
}

/* What the kernel counts for each user: as much as we get, and we keep it. */
static void take_what_users_share(void) {
    struct mq_attr shape = {.mq_maxmsg = 1, .mq_msgsize = 1};
    char name[32];
    snprintf(name, sizeof name, "queue-%d", getpid());
    errno = 0;
    long queue = syscall(SYS_mq_open, name, O_CREAT | O_RDWR, 0600, &shape);
    tell("queue", queue < 0 ? strerror(errno) : "made");
    long instances = 0, timers = 0;
    while (inotify_init1(0) >= 0) instances++;
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    timer_t timer;
    while (timers < 1000000 && timer_create(CLOCK_MONOTONIC, &event, &timer) == 0) timers++;
    tell_number("instances", instances);
    tell_number("timers", timers);
    report(told);
}

/* As many children as there may be; they end with us. */
static void fork_bomb(void) {
    long born = 0;
    while (born < 5000) {
        pid_t pid = fork();
        if (pid == 0) sleep_for_ever();
        if (pid < 0) break;
        born++;
    }
    tell_number("born", born);
    tell("then", strerror(errno));
    report(told);
}

/* Where one may write, and how much of /tmp there is. */
static void tell_scratch(void) {
    static const char *const folders[] = {"/", "/etc", "/usr", "/var", "/dev", "/rekindle", "/tmp",
                                          "/var/tmp", "/run", "/dev/shm", "/home/agent", "/sys", "/proc"};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        char path[256];
        snprintf(path, sizeof path, "%s/new-%d", folders[i], getpid());
        int fd = open(path, O_WRONLY | O_CREAT, 0755);
        tell(folders[i], fd < 0 ? "no" : "yes");
        if (fd >= 0) close(fd);
    }
    struct statvfs tmp;
    statvfs("/tmp", &tmp);
    tell("tmp-exec", tmp.f_flag & ST_NOEXEC ? "no" : "yes");
    tell("tmp-suid", tmp.f_flag & ST_NOSUID ? "no" : "yes");
    static char block[1 << 20];
    int fd = open("/tmp/fill", O_WRONLY | O_CREAT, 0644);
    long written = 0;
    while (written < 256 && write(fd, block, sizeof block) == sizeof block) written++;
    tell_number("tmp-mib", written);
    tell("then", strerror(errno));
    report(told);
}

/* A child that is killed for want of memory, and what the first process sees of that where the worker looks. */
static void tell_oom_of_a_child(void) {
    static const char *const counters[] = {"/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"};
    int status = 0;
    char line[256];
    pid_t pid = fork();
    if (pid == 0) {
        FILE *score = fopen("/proc/self/oom_score_adj", "w");
        fputs("500", score);
        fclose(score);
        eat_memory();
    }
    waitpid(pid, &status, 0);
    tell_number("signal", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    for (int i = 0; i < 2; i++) {
        FILE *file = fopen(counters[i], "r");
        while (file && fgets(line, sizeof line, file))
            if (!strncmp(line, "oom_kill ", 9)) tell_number("kills", atol(line + 9));
    }
    report(told);
}

/* Sixteen MiB in the home: as a file that lies there; as one that has no name, open or mapped; in a folder whose path is too
   long for any call. */
static void fill_home(const char *how) {
    static char block[1 << 20], name[250];
    if (chdir(getenv("HOME"))) _exit(97);
    if (!strcmp(how, "deep")) {
        memset(name, 'd', sizeof name - 1);
        for (int n = 0; n < 20; n++)
            if (mkdir(name, 0755) || chdir(name)) _exit(97);
    }
    int fd = open("fill", O_RDWR | O_CREAT, 0644);
    if (!strcmp(how, "nameless") || !strcmp(how, "mapped")) unlink("fill");
    for (int n = 0; n < 16; n++)
        if (write(fd, block, sizeof block) < 0) _exit(98);
    if (!strcmp(how, "mapped")) {
        if (mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED) _exit(96);
        close(fd);
    }
    report("filled");
}

static void flood_home(void) {
    char path[4096];
    for (int n = 0; n < 200; n++) {
        snprintf(path, sizeof path, "%s/%d", getenv("HOME"), n);
        if (mkdir(path, 0755)) _exit(97);
    }
    report("flooded");
}

static void nest_in(const char *top) {
    char name[256];
    memset(name, 'n', 255);
    name[255] = 0;
    int at = open(top, O_RDONLY | O_DIRECTORY);
    for (int depth = 0; depth < 20000; depth++) {
        if (mkdirat(at, name, 0755)) _exit(97);
        int below = openat(at, name, O_RDONLY | O_DIRECTORY);
        close(at);
        at = below;
    }
    close(openat(at, "lowest", O_WRONLY | O_CREAT, 0644));
    close(at);
    /* And what its owner may not enter. */
    char path[4096];
    snprintf(path, sizeof path, "%s/closed", top);
    mkdir(path, 0755);
    snprintf(path, sizeof path, "%s/closed/below", top);
    mkdir(path, 0755);
    chmod(path, 0);
    snprintf(path, sizeof path, "%s/closed", top);
    chmod(path, 0);
}

/* Folders in each other wherever it may write, with names as long as may be. */
static void nest(void) {
    nest_in(".");
    nest_in(getenv("HOME"));
    nest_in(getenv("REKINDLE_STATE"));
    report("nested");
}

/* Nobody may enter any more what others will need. */
static void close_folders(void) {
    report("closed");
    if (chmod(".", 0) || chmod(getenv("HOME"), 0) || chmod(getenv("REKINDLE_STATE"), 0)) _exit(96);
}

/* A child that says with its environment and on its command line that it is another unit's. */
static void lie(char *argument) {
    if (fork() == 0) {
        char unit[256], generation[256], state[4096];
        snprintf(unit, sizeof unit, "REKINDLE_UNIT=%s", getenv("LIE_UNIT"));
        snprintf(generation, sizeof generation, "REKINDLE_GENERATION=%s", getenv("LIE_GENERATION"));
        snprintf(state, sizeof state, "REKINDLE_STATE=%s", getenv("REKINDLE_STATE"));
        char *environment[] = {unit, generation, state, "SCRIPT=lying", NULL};
        char *arguments[] = {"shim", "--dir", getenv("LIE_FOLDER"), NULL};
        execve("/proc/self/exe", arguments, environment);
        execve(argument, arguments, environment);
        _exit(95);
    }
    int status;
    wait(&status);
    _exit(94);
}

/* `guest inspect <workspace>`: what to do is in the place of the path, what came of it is told in the answer's. */
static int inspect(const char *workspace) {
    const char *look = getenv("REKINDLE_INSPECT");
    char text[4096] = "", path[4096];
    if (!look) return 9;
    if (strstr(look, "\"sleep")) sleep_for_ever();
    if (strstr(look, "\"flood"))
        for (;;)
            if (write(1, path, sizeof path) < 0) return 1;
    if (strstr(look, "\"fail")) {
        fputs("it went wrong here\n", stderr);
        return 7;
    }
    if (strstr(look, "\"absent")) {
        puts("{\"refused\":{\"reason\":\"absent\",\"detail\":\"no\"}}");
        return 0;
    }
    if (strstr(look, "\"environment")) {
        for (char **entry = environ; *entry; entry++) strncat(text, *entry, strcspn(*entry, "=")), strcat(text, " ");
    } else if (strstr(look, "\"network")) {
        struct if_nameindex *all = if_nameindex();
        for (struct if_nameindex *one = all; one && one->if_name; one++) strncat(strcat(text, one->if_name), " ", 2);
    } else {
        struct stat seen;
        snprintf(path, sizeof path, "%s/note", workspace);
        strcat(text, stat(path, &seen) ? strerror(errno) : "seen");
        snprintf(path, sizeof path, "%s/new", workspace);
        strcat(text, ", ");
        strcat(text, open(path, O_WRONLY | O_CREAT, 0644) < 0 ? strerror(errno) : "written");
    }
    printf("{\"answer\":{\"kind\":\"folder\",\"path\":\"%s\",\"entries\":[],\"truncated\":false}}", text);
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "inspect")) return inspect(argv[2]);
    const char *script = getenv("SCRIPT");
    if (!script) script = "";
    if (!strcmp(script, "exit0")) return 0;
    if (!strcmp(script, "exit7")) {
        fputs("it went wrong here\n", stderr);
        return 7;
    }
    if (!strcmp(script, "abort")) {
        signal(SIGSEGV, SIG_DFL);
        volatile int *nowhere = 0;
        *nowhere = 1;
    }
    if (!strcmp(script, "ignore-term")) signal(SIGTERM, SIG_IGN);
    else signal(SIGTERM, on_term);
    if (!strcmp(script, "fork")) fork_some();
    if (!strcmp(script, "eat-memory")) eat_memory();
    if (!strcmp(script, "touch")) touch(getenv("TARGET"));
    else if (!strcmp(script, "touch-in-sock")) touch_in_sock();
    else if (!strcmp(script, "environment")) tell_environment();
    else if (!strcmp(script, "network")) tell_network();
    else if (!strcmp(script, "mounts")) tell_mounts();
    else if (!strcmp(script, "calls")) tell_calls();
    else if (!strcmp(script, "limits")) tell_limits();
    else if (!strcmp(script, "fork-bomb")) fork_bomb();
    else if (!strcmp(script, "take-what-users-share")) take_what_users_share();
    else if (!strcmp(script, "scratch")) tell_scratch();
    else if (!strncmp(script, "fill-home-", 10)) fill_home(script + 10);
    else if (!strcmp(script, "flood-home")) flood_home();
    else if (!strcmp(script, "nest")) nest();
    else if (!strcmp(script, "close")) close_folders();
    else if (!strcmp(script, "lie")) lie(argv[0]);
    else if (!strcmp(script, "oom-child")) tell_oom_of_a_child();
    else report("ready");
    sleep_for_ever();
}
