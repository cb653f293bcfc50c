// Full handshakes over loopback, with ECH and without, and what each costs the server: a running ech-tunnel, and beside
// it a child of this program that does nothing but BoringSSL's handshakes on blocking sockets, one after another.
//
//   ech-tunnel -l wss://127.0.0.1:24443/ -threads 1 -state /tmp/handshakes &
//   handshake_load --port 24443 --pid $! --state /tmp/handshakes [--blocks N] [--block N] [--workers N]
//
// Certificate and ECH keys of both are those in the state directory. A connection is made, shakes hands, and ends; the
// server has closed it too before its worker makes the next. The CPU time is that of the server's process, kernel
// included. All kinds take turns in blocks; figures are medians over the blocks, with least and most. The server has
// one thread, so that "a second and core" is what it says.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "bench/arguments.h"
#include "ech/boringssl_error.h"
#include "ech/key_store.h"

namespace tunnel::bench {
namespace {

constexpr int kReceiveLimitSeconds = 30;

struct Options {
  uint16_t port = 0;
  int pid = 0;
  std::filesystem::path state;
  unsigned blocks = 11;
  unsigned block = 500;
  unsigned workers = 4;
};

Options ParseOptions(Arguments arguments) {
  Options options;
  while (arguments.Next()) {
    if (arguments.name() == "--port") {
      options.port = arguments.Port();
    } else if (arguments.name() == "--pid") {
      options.pid = arguments.Within<int>(1, 1 << 22);
    } else if (arguments.name() == "--state") {
      options.state = arguments.Text();
    } else if (arguments.name() == "--blocks") {
      options.blocks = arguments.Within<unsigned>(1, 1000);
    } else if (arguments.name() == "--block") {
      options.block = arguments.Within<unsigned>(1, 100'000);
    } else if (arguments.name() == "--workers") {
      options.workers = arguments.Within<unsigned>(1, 64);
    } else {
      arguments.Unknown();
    }
  }
  if (options.port == 0 || options.pid == 0 || options.state.empty()) {
    throw UsageError("--port, --pid and --state are needed");
  }
  return options;
}

// Of all threads of a process.
struct CpuTime {
  double seconds = 0;  // user and system
  double user_ticks = 0;
  double system_ticks = 0;
};

CpuTime CpuTimeOf(int pid) {
  clockid_t clock{};
  timespec now{};
  std::string text;
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::getline(stat, text);
  if (text.rfind(')') == std::string::npos || ::clock_getcpuclockid(pid, &clock) != 0 ||
      ::clock_gettime(clock, &now) != 0) {
    throw std::runtime_error(fmt::format("no CPU time of process {}", pid));
  }
  CpuTime time{.seconds = static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9};
  std::istringstream fields(text.substr(text.rfind(')') + 1));
  std::string skipped;
  for (int i = 0; i < 11; ++i) fields >> skipped;  // up to utime and stime, proc(5)
  fields >> time.user_ticks >> time.system_ticks;
  return time;
}

sockaddr_in Loopback(uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

// BoringSSL alone: a process of its own that shakes hands, waits for the client to go, and closes.
class LibraryServer {
 public:
  LibraryServer(const std::filesystem::path& state, const ech::KeyStore& keys) {
    listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address = Loopback(0);
    socklen_t length = sizeof address;
    if (listener_ < 0 || ::bind(listener_, reinterpret_cast<const sockaddr*>(&address), length) != 0 ||
        ::listen(listener_, 64) != 0 || ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &length) != 0) {
      throw std::runtime_error("the library's server cannot listen");
    }
    port_ = ntohs(address.sin_port);
    const bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_method()));
    if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx.get(), TLS1_3_VERSION) != 1 ||
        SSL_CTX_use_certificate_chain_file(ctx.get(), (state / "cert.pem").c_str()) != 1 ||
        SSL_CTX_use_PrivateKey_file(ctx.get(), (state / "key.pem").c_str(), SSL_FILETYPE_PEM) != 1) {
      throw std::runtime_error(fmt::format("{}: {}", state.string(), ech::TakeBoringSslError()));
    }
    SSL_CTX_set_session_cache_mode(ctx.get(), SSL_SESS_CACHE_OFF);
    SSL_CTX_set_options(ctx.get(), SSL_OP_NO_TICKET);
    SSL_CTX_set_num_tickets(ctx.get(), 0);
    const absl::Status given = keys.ApplyTo(ctx.get());
    if (!given.ok()) throw std::runtime_error(std::string(MessageOf(given)));
    pid_ = ::fork();
    if (pid_ < 0) throw std::runtime_error("no process for the library's server");
    if (pid_ > 0) return;
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;) {
      const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) _exit(1);
      const bssl::UniquePtr<SSL> ssl(SSL_new(ctx.get()));
      if (SSL_set_fd(ssl.get(), fd) != 1 || SSL_accept(ssl.get()) != 1) _exit(1);
      char rest[16];
      (void)SSL_read(ssl.get(), rest, sizeof rest);
      ERR_clear_error();
      ::close(fd);
    }
  }
  LibraryServer(const LibraryServer&) = delete;
  LibraryServer& operator=(const LibraryServer&) = delete;
  ~LibraryServer() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    ::close(listener_);
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] uint16_t port() const { return port_; }

 private:
  int listener_ = -1;
  pid_t pid_ = -1;
  uint16_t port_ = 0;
};

int Connect(uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const sockaddr_in address = Loopback(port);
  const timeval limit{.tv_sec = kReceiveLimitSeconds, .tv_usec = 0};
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
      ::connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    if (fd >= 0) ::close(fd);
    throw std::runtime_error(fmt::format("no connection to port {}", port));
  }
  return fd;
}

// One handshake; with ECH under `list` unless that is empty. Ends when the server has closed the connection.
void Shake(SSL_CTX* ctx, uint16_t port, std::span<const uint8_t> list) {
  const bssl::UniquePtr<SSL> ssl(SSL_new(ctx));
  BIO* const bio = BIO_new_socket(Connect(port), BIO_CLOSE);
  if (ssl == nullptr || bio == nullptr) throw std::runtime_error("no memory");
  SSL_set_bio(ssl.get(), bio, bio);
  if (SSL_set_tlsext_host_name(ssl.get(), "localhost") != 1 ||
      (!list.empty() && SSL_set1_ech_config_list(ssl.get(), list.data(), list.size()) != 1) ||
      SSL_connect(ssl.get()) != 1 || (SSL_ech_accepted(ssl.get()) == 1) != !list.empty() ||
      SSL_session_reused(ssl.get()) == 1) {
    throw std::runtime_error(fmt::format("a handshake failed: {}", ech::TakeBoringSslError()));
  }
  const int fd = SSL_get_fd(ssl.get());
  ::shutdown(fd, SHUT_WR);
  char rest[256];
  ssize_t received = 0;
  while ((received = ::recv(fd, rest, sizeof rest, 0)) > 0) continue;
  if (received < 0 && errno != ECONNRESET) throw std::runtime_error("the server did not close the connection");
}

// Handshakes of one kind with one server, and what it spent on them.
struct Cost {
  std::string_view name;
  pid_t pid;
  uint16_t port;
  std::span<const uint8_t> ech_list;
  std::vector<double> microseconds = {};  // of CPU time for each handshake, block by block
  double user_ticks = 0;
  double system_ticks = 0;
};

// `options.block` handshakes by all workers together.
void RunBlock(SSL_CTX* ctx, const Options& options, Cost& cost) {
  std::atomic<unsigned> next = 0;
  std::vector<std::string> errors(options.workers);
  const CpuTime begin = CpuTimeOf(cost.pid);
  {
    std::vector<std::jthread> workers;
    workers.reserve(errors.size());
    for (std::string& error : errors) {
      workers.emplace_back([&, ctx] {
        try {
          while (next.fetch_add(1) < options.block) Shake(ctx, cost.port, cost.ech_list);
        } catch (const std::exception& thrown) {
          error = thrown.what();
        }
      });
    }
  }
  for (const std::string& error : errors) {
    if (!error.empty()) throw std::runtime_error(error);
  }
  const CpuTime end = CpuTimeOf(cost.pid);
  cost.microseconds.push_back((end.seconds - begin.seconds) / options.block * 1e6);
  cost.user_ticks += end.user_ticks - begin.user_ticks;
  cost.system_ticks += end.system_ticks - begin.system_ticks;
}

double Median(std::vector<double> values) {
  std::ranges::sort(values);
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// The median over the blocks of what `one` did for one of `other`.
double Ratio(const Cost& one, const Cost& other) {
  std::vector<double> ratios;
  ratios.reserve(one.microseconds.size());
  for (size_t i = 0; i < one.microseconds.size(); ++i) {
    ratios.push_back(other.microseconds[i] / one.microseconds[i]);
  }
  return Median(ratios);
}

void Print(const Cost& cost, const Options& options) {
  const auto [least, most] = std::ranges::minmax(cost.microseconds);
  const double median = Median(cost.microseconds);
  fmt::print(
      "{:18} {:6} handshakes  {:6.1f} us of the server's CPU ({:.1f} to {:.1f}), {:2.0f} % in the kernel"
      "  {:6.0f} a second and core\n",
      cost.name, size_t{options.blocks} * options.block, median, least, most,
      100 * cost.system_ticks / std::max(1.0, cost.user_ticks + cost.system_ticks), 1e6 / median);
}

int Main(std::span<char*> arguments) {
  const Options options = ParseOptions(Arguments(arguments.subspan(1)));
  const auto keys = ech::KeyStore::Load(options.state / "ech");
  if (!keys.ok()) throw std::runtime_error(std::string(MessageOf(keys.status())));
  const std::vector<uint8_t> list = keys->PublishedList();
  const LibraryServer library(options.state, *keys);
  const bssl::UniquePtr<SSL_CTX> ctx(SSL_CTX_new(TLS_with_buffers_method()));
  if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx.get(), TLS1_3_VERSION) != 1) {
    throw std::runtime_error("TLS cannot be set up");
  }
  SSL_CTX_set_custom_verify(ctx.get(), SSL_VERIFY_PEER, [](SSL*, uint8_t*) { return ssl_verify_ok; });

  std::array<Cost, 4> costs = {{
      {.name = "ech-tunnel, plain", .pid = options.pid, .port = options.port, .ech_list = {}},
      {.name = "BoringSSL, plain", .pid = library.pid(), .port = library.port(), .ech_list = {}},
      {.name = "ech-tunnel, ECH", .pid = options.pid, .port = options.port, .ech_list = list},
      {.name = "BoringSSL, ECH", .pid = library.pid(), .port = library.port(), .ech_list = list},
  }};
  // Each once before anything counts.
  for (const Cost& cost : costs) Shake(ctx.get(), cost.port, cost.ech_list);
  for (unsigned i = 0; i < options.blocks; ++i) {
    for (Cost& cost : costs) RunBlock(ctx.get(), options, cost);
  }
  for (const Cost& cost : costs) Print(cost, options);
  fmt::print(
      "for one of BoringSSL's, ech-tunnel does {:.2f} plain and {:.2f} with ECH; for a plain one, {:.2f} with ECH\n",
      Ratio(costs[0], costs[1]), Ratio(costs[2], costs[3]), Ratio(costs[2], costs[0]));
  return 0;
}

}  // namespace
}  // namespace tunnel::bench

int main(int argc, char** argv) {
  try {
    return tunnel::bench::Main({argv, static_cast<size_t>(argc)});
  } catch (const tunnel::bench::UsageError& error) {
    fmt::print(stderr, "handshake_load: {}\n", error.what());
    return 2;
  } catch (const std::exception& error) {
    fmt::print(stderr, "handshake_load: {}\n", error.what());
    return 1;
  }
}
