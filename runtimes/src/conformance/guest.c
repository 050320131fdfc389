/* What the conformance suite runs in the worker's place: does what SCRIPT says. Static, so that it runs in any image. */
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
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
        if (block) memset(block, 1, 1 << 20);
    }
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
    else report("ready");
    sleep_for_ever();
}
