#include "core/process.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

namespace tunnel::core {
namespace {

sigset_t SetOf(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) sigaddset(&set, signal);
  return set;
}

}  // namespace

uint64_t RaiseOpenFilesLimit() {
  rlimit limit{};
  TUNNEL_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  return setrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : before;
}

int64_t WallSeconds() { return time(nullptr); }

void BlockSignals(std::initializer_list<int> signals) {
  const sigset_t set = SetOf(signals);
  TUNNEL_CHECK(pthread_sigmask(SIG_BLOCK, &set, nullptr) == 0);
  struct sigaction ignore{};
  ignore.sa_handler = SIG_IGN;
  TUNNEL_CHECK(sigaction(SIGPIPE, &ignore, nullptr) == 0);
}

SignalWatch::SignalWatch(Reactor& reactor, std::initializer_list<int> signals, absl::AnyInvocable<void(int)> received)
    : received_(std::move(received)) {
  const sigset_t set = SetOf(signals);
  descriptor_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  TUNNEL_CHECK(descriptor_ >= 0);
  watch_ = std::make_unique<DescriptorWatch>(reactor, descriptor_, [this](uint32_t) { Read(); });
  watch_->Watch(EPOLLIN);
}

SignalWatch::~SignalWatch() {
  watch_.reset();
  close(descriptor_);
}

void SignalWatch::Read() {
  signalfd_siginfo info{};
  while (read(descriptor_, &info, sizeof(info)) == static_cast<ssize_t>(sizeof(info))) {
    received_(static_cast<int>(info.ssi_signo));
  }
}

}  // namespace tunnel::core
