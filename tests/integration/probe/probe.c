// Two halves of a connection, for images with nothing else in them:
//   probe listen PORT           accept connections
//   probe connect ADDRESS PORT  exit 0 if one is accepted within two seconds
#include <arpa/inet.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

static int serve(struct sockaddr_in *address, int fd) {
  int yes = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  if (bind(fd, (struct sockaddr *)address, sizeof *address) || listen(fd, 64)) {
    perror("listen");
    return 2;
  }
  for (;;) {
    int peer = accept(fd, 0, 0);
    if (peer >= 0) {
      close(peer);
    }
  }
}

static int ask(struct sockaddr_in *address, int fd) {
  struct timeval patience = {.tv_sec = 2};
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (connect(fd, (struct sockaddr *)address, sizeof *address)) {
    perror("connect");
    return 1;
  }
  return 0;
}

static void end(int signal) { _exit(signal ? 0 : 1); }

int main(int argc, char **argv) {
  struct sockaddr_in address = {.sin_family = AF_INET};
  int fd = socket(AF_INET, SOCK_STREAM, 0);
  signal(SIGTERM, end);
  if (argc == 3 && !strcmp(argv[1], "listen")) {
    address.sin_port = htons((unsigned short)atoi(argv[2]));
    return serve(&address, fd);
  }
  if (argc == 4 && !strcmp(argv[1], "connect") && inet_pton(AF_INET, argv[2], &address.sin_addr) == 1) {
    address.sin_port = htons((unsigned short)atoi(argv[3]));
    return ask(&address, fd);
  }
  return 2;
}
