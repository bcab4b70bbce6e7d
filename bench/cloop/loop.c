// A server and a client that poll, with nothing between them and the kernel: what the engine's tail is measured against. The
// client asks for a block at a random place with a header of 64 bytes, as long as an NVMe command, and the server sends it from
// memory. One request is in flight. Both spin on sockets that do not block: there is no sleep, no wake-up and no readiness to ask for. The same
// over io_uring was slower where it was tried, in turns: medians of 13.2 to 17.5 us with DEFER_TASKRUN and 27.6 to 42.3 us without, against 9.6 to
// 17.3 us.
//
//	loop SERVER_CORE CLIENT_CORE SECONDS RAMP_SECONDS BLOCK_BYTES MEMORY_BYTES
//
// On standard output comes a line of text
//
//	REQUESTS SECONDS_MEASURED CLIENT_CPU_SECONDS SERVER_CPU_SECONDS
//
// and then the latency of each request, in the order in which they were made, as 32-bit numbers of nanoseconds in the machine's byte
// order; one that does not fit is the largest number. As in the engine's own client, the clock is read once for each request: at
// the end of one, which is the beginning of the next.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct request {
	uint64_t offset;
	uint32_t length;
	uint8_t rest[52];
};

_Static_assert(sizeof(struct request) == 64, "a request is as long as an NVMe command");

static void fail(const char *what)
{
	fprintf(stderr, "the loop in C: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

// cpu_of is the processor time of a process in seconds.
static double cpu_of(pid_t pid)
{
	clockid_t clock;
	struct timespec t;
	if (clock_getcpuclockid(pid, &clock) || clock_gettime(clock, &t))
		fail("reading its processor time");
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void pin(int core)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(core, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		fail("pinning it to its core");
}

static void *memory(size_t bytes, int filler)
{
	void *m = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		fail("getting memory");
	memset(m, filler, bytes); // or the first touches would be measured
	return m;
}

// all moves n bytes, and spins where there are none or there is no room. It is 0 when the peer has ended.
static int all(int s, void *at, size_t n, int sends)
{
	for (size_t done = 0; done < n;) {
		char *p = (char *)at + done;
		ssize_t k = sends ? send(s, p, n - done, MSG_DONTWAIT | MSG_NOSIGNAL) : recv(s, p, n - done, MSG_DONTWAIT);
		if (k > 0)
			done += (size_t)k;
		else if (k == 0 || errno == ECONNRESET || errno == EPIPE)
			return 0;
		else if (errno != EAGAIN && errno != EINTR)
			fail(sends ? "sending" : "receiving");
	}
	return 1;
}

static void serve(int s, size_t bytes)
{
	char *blocks = memory(bytes, 1);
	struct request q;
	while (all(s, &q, sizeof(q), 0)) {
		if (q.offset > bytes || q.length > bytes - q.offset) {
			errno = EINVAL;
			fail("serving a request beyond the end");
		}
		if (!all(s, blocks + q.offset, q.length, 1))
			break;
	}
	exit(0);
}

// next is the generator of places: xorshift64 (Marsaglia, "Xorshift RNGs", 2003).
static uint64_t next(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	return *x ^= *x << 17;
}

// load asks until the time is over, and gives the number of latencies.
static size_t load(int s, double seconds, uint32_t block, size_t bytes, uint32_t *latencies, size_t most)
{
	char *into = memory(block, 2);
	struct request q = {.length = block};
	uint64_t x = 88172645463325252ull, t = now(), end = t + (uint64_t)(seconds * 1e9);
	size_t n = 0;
	while (t < end && n < most) {
		q.offset = next(&x) % (bytes / block) * block;
		if (!all(s, &q, sizeof(q), 1) || !all(s, into, block, 0)) {
			errno = ECONNRESET;
			fail("asking");
		}
		uint64_t u = now();
		latencies[n++] = u - t > UINT32_MAX ? UINT32_MAX : (uint32_t)(u - t);
		t = u;
	}
	munmap(into, block);
	return n;
}

int main(int argc, char **argv)
{
	if (argc != 7) {
		fprintf(stderr, "usage: loop SERVER_CORE CLIENT_CORE SECONDS RAMP_SECONDS BLOCK_BYTES MEMORY_BYTES\n");
		return 2;
	}
	int server_core = atoi(argv[1]), client_core = atoi(argv[2]);
	double seconds = atof(argv[3]), ramp = atof(argv[4]);
	uint32_t block = (uint32_t)atoll(argv[5]);
	size_t bytes = (size_t)atoll(argv[6]);

	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(at);
	int one = 1, l = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (l < 0 || bind(l, (struct sockaddr *)&at, sizeof(at)) || listen(l, 1) || getsockname(l, (struct sockaddr *)&at, &length))
		fail("listening");
	pid_t parent = getpid(), server = fork();
	if (server < 0)
		fail("starting the server");
	if (server == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			exit(1);
		pin(server_core);
		int s = accept(l, NULL, NULL);
		if (s < 0 || setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
			fail("taking the connection");
		serve(s, bytes);
	}
	pin(client_core);
	int s = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (s < 0 || connect(s, (struct sockaddr *)&at, sizeof(at)) || setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		fail("connecting");

	const double most_per_second = 1e6; // loopback takes 10 us and more
	size_t most = (size_t)(seconds * most_per_second) + 1;
	uint32_t *latencies = memory(most * sizeof(*latencies), 0);
	load(s, ramp, block, bytes, latencies, most);
	double client = cpu_of(parent), served = cpu_of(server);
	uint64_t began = now();
	size_t n = load(s, seconds, block, bytes, latencies, most);
	double took = (double)(now() - began) * 1e-9;
	client = cpu_of(parent) - client, served = cpu_of(server) - served;
	close(s);
	int status;
	if (waitpid(server, &status, 0) != server || status != 0) {
		errno = ECHILD;
		fail("the server's end");
	}
	printf("%zu %.9f %.6f %.6f\n", n, took, client, served);
	if (fwrite(latencies, sizeof(*latencies), n, stdout) != n || fflush(stdout))
		fail("telling the latencies");
	return 0;
}
