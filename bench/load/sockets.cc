#include "bench/load/sockets.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <stdexcept>
#include <system_error>

namespace tunnel::bench {
namespace {

[[noreturn]] void Fail(const char* what) { throw std::system_error(errno, std::generic_category(), what); }

sockaddr_in ToSockaddr(const Endpoint& endpoint) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(endpoint.port);
  address.sin_addr.s_addr = htonl(endpoint.address);
  return address;
}

Socket NewSocket() {
  Socket made(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!made.open()) Fail("socket");
  return made;
}

void SetOption(const Socket& socket, int level, int name) {
  const int on = 1;
  if (setsockopt(socket.fd(), level, name, &on, sizeof(on)) != 0) Fail("setsockopt");
}

uint32_t Events(Loop::Wait wait) { return wait == Loop::Wait::kReadable ? EPOLLIN : EPOLLOUT; }

}  // namespace

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    Close();
    fd_ = std::exchange(other.fd_, -1);
  }
  return *this;
}

void Socket::Close() {
  if (fd_ >= 0) close(fd_);
  fd_ = -1;
}

std::string Socket::CongestionControl() const {
  std::array<char, 16> name{};
  socklen_t size = sizeof(name);
  if (getsockopt(fd_, IPPROTO_TCP, TCP_CONGESTION, name.data(), &size) != 0) Fail("TCP_CONGESTION");
  return {name.data()};
}

void Socket::CheckConnected() const {
  int error = 0;
  socklen_t size = sizeof(error);
  if (getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &size) != 0) Fail("SO_ERROR");
  if (error != 0) throw std::system_error(error, std::generic_category(), "connecting");
}

void Socket::LimitReceiveBuffer(int bytes) const {
  if (setsockopt(fd_, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)) != 0) Fail("SO_RCVBUF");
}

size_t Socket::Waiting() const {
  int bytes = 0;
  if (ioctl(fd_, FIONREAD, &bytes) != 0) Fail("FIONREAD");
  return static_cast<size_t>(bytes);
}

void Socket::SendAll(std::span<const uint8_t> bytes) const {
  const ssize_t sent = send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent < 0) Fail("sending a message");
  if (static_cast<size_t>(sent) != bytes.size()) throw std::runtime_error("a message did not fit the send buffer");
}

size_t Socket::Receive(std::span<uint8_t> into) const {
  const ssize_t received = recv(fd_, into.data(), into.size(), 0);
  if (received > 0) return static_cast<size_t>(received);
  if (received == 0) throw std::runtime_error("the connection was closed instead of an answer");
  if (errno != EAGAIN && errno != EINTR) Fail("receiving a message");
  return 0;
}

std::optional<uint32_t> ParseAddress(const std::string& text) {
  in_addr address{};
  if (inet_pton(AF_INET, text.c_str(), &address) != 1) return std::nullopt;
  return ntohl(address.s_addr);
}

Socket Listen(Endpoint& at) {
  Socket socket = NewSocket();
  SetOption(socket, SOL_SOCKET, SO_REUSEADDR);
  sockaddr_in address = ToSockaddr(at);
  socklen_t size = sizeof(address);
  if (bind(socket.fd(), reinterpret_cast<const sockaddr*>(&address), size) != 0) Fail("bind");
  if (listen(socket.fd(), 4096) != 0) Fail("listen");
  if (getsockname(socket.fd(), reinterpret_cast<sockaddr*>(&address), &size) != 0) Fail("getsockname");
  at.port = ntohs(address.sin_port);
  return socket;
}

Socket StartConnect(const Endpoint& to) {
  Socket socket = NewSocket();
  SetOption(socket, IPPROTO_TCP, TCP_NODELAY);
  const sockaddr_in address = ToSockaddr(to);
  if (connect(socket.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0 && errno != EINPROGRESS) {
    Fail("connect");
  }
  return socket;
}

Socket Accept(const Socket& listener) {
  Socket socket(accept4(listener.fd(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
  if (socket.open()) {
    SetOption(socket, IPPROTO_TCP, TCP_NODELAY);
  } else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED) {
    Fail("accept");
  }
  return socket;
}

Loop::Loop() : epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  if (epoll_ < 0) Fail("epoll_create1");
}

Loop::~Loop() { close(epoll_); }

void Loop::Watch(const Socket& socket, Wait wait, Handler& handler) const {
  epoll_event event{.events = Events(wait), .data = {.ptr = &handler}};
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, socket.fd(), &event) != 0) Fail("epoll_ctl");
}

void Loop::Change(const Socket& socket, Wait wait, Handler& handler) const {
  epoll_event event{.events = Events(wait), .data = {.ptr = &handler}};
  if (epoll_ctl(epoll_, EPOLL_CTL_MOD, socket.fd(), &event) != 0) Fail("epoll_ctl");
}

void Loop::Ignore(const Socket& socket) const {
  if (epoll_ctl(epoll_, EPOLL_CTL_DEL, socket.fd(), nullptr) != 0) Fail("epoll_ctl");
}

bool Loop::Turn(Clock::time_point until) const {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - Clock::now()).count();
  std::array<epoll_event, 64> ready;
  const int count = epoll_wait(epoll_, ready.data(), static_cast<int>(ready.size()),
                               static_cast<int>(std::clamp<int64_t>(left, 0, 60'000)));
  if (count < 0) {
    if (errno == EINTR) return false;
    Fail("epoll_wait");
  }
  // A handler closes no descriptor but its own, so none of the others can be gone.
  for (int i = 0; i < count; ++i) static_cast<Handler*>(ready[static_cast<size_t>(i)].data.ptr)->OnReady();
  return true;
}

}  // namespace tunnel::bench
