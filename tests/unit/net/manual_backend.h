// A backend whose clock stands still until the test moves it, over a real one: sockets work, and an hour takes no time.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "core/backend.h"
#include "core/reactor.h"
#include "net/limits.h"

namespace tunnel::net {

class ManualBackend final : public core::Backend {
 public:
  explicit ManualBackend(std::unique_ptr<core::Backend> inner)
      : inner_(std::move(inner)), started_(inner_->Now()), wall_started_(inner_->WallSeconds()), now_(started_) {
    inner_->SetAfterWait([this] { AfterWait(); });
  }

  void Advance(core::Duration by) { now_ += by; }
  // What every draw of eight bytes gives, and so RandomBelow() this modulo its limit. Without a value: true randomness.
  void SetDraw(std::optional<uint64_t> draw) { draw_ = draw; }

  [[nodiscard]] std::string Describe() const override { return inner_->Describe(); }
  void Start(core::Operation& operation) override { inner_->Start(operation); }
  void Cancel(core::Operation& operation) override { inner_->Cancel(operation); }
  [[nodiscard]] core::IoError OpenStream(int family, int& descriptor) override {
    return inner_->OpenStream(family, descriptor);
  }
  [[nodiscard]] core::IoError Listen(int descriptor, const core::SocketAddress& address, bool share_port) override {
    return inner_->Listen(descriptor, address, share_port);
  }
  [[nodiscard]] core::SocketAddress LocalAddress(int descriptor) override { return inner_->LocalAddress(descriptor); }
  [[nodiscard]] core::SocketAddress PeerAddress(int descriptor) override { return inner_->PeerAddress(descriptor); }
  void SetNoDelay(int descriptor) override { inner_->SetNoDelay(descriptor); }
  void LimitUnsent(int descriptor, unsigned bytes) override { inner_->LimitUnsent(descriptor, bytes); }
  [[nodiscard]] core::IoError OpenDatagram(const core::SocketAddress& address, int& descriptor) override {
    return inner_->OpenDatagram(address, descriptor);
  }
  [[nodiscard]] core::IoError ConnectDatagram(int descriptor, const core::SocketAddress& peer) override {
    return inner_->ConnectDatagram(descriptor, peer);
  }
  [[nodiscard]] core::DatagramsSent SendDatagrams(int descriptor,
                                                  std::span<const core::OutgoingDatagram> datagrams) override {
    return inner_->SendDatagrams(descriptor, datagrams);
  }
  [[nodiscard]] core::IoError SetCongestionControl(int descriptor, const std::string& algorithm) override {
    return inner_->SetCongestionControl(descriptor, algorithm);
  }
  void ShutdownWrite(int descriptor) override { inner_->ShutdownWrite(descriptor); }
  void Abort(int descriptor, bool reset) override { inner_->Abort(descriptor, reset); }
  void Close(int descriptor) override { inner_->Close(descriptor); }
  void Detach(int descriptor) override { inner_->Detach(descriptor); }
  [[nodiscard]] core::TimePoint Now() override { return now_; }
  [[nodiscard]] int64_t WallSeconds() override {
    return wall_started_ + std::chrono::duration_cast<std::chrono::seconds>(now_ - started_).count();
  }
  void FillRandom(std::span<uint8_t> out) override {
    if (!draw_.has_value() || out.size() != sizeof(uint64_t)) {
      inner_->FillRandom(out);
      return;
    }
    for (size_t i = 0; i < out.size(); ++i) out[i] = static_cast<uint8_t>(*draw_ >> (56 - 8 * i));
  }
  void Poll(core::TimePoint deadline) override {
    // What the kernel has to tell may take a moment; the test's clock does not move for it.
    const core::Duration wait =
        std::clamp<core::Duration>(deadline - now_, core::Duration::zero(), std::chrono::milliseconds(1));
    inner_->Poll(inner_->Now() + wait);
  }
  void Wake() override { inner_->Wake(); }
  [[nodiscard]] size_t receive_buffers_in_use() const override { return inner_->receive_buffers_in_use(); }

 private:
  std::unique_ptr<core::Backend> inner_;
  const core::TimePoint started_;
  const int64_t wall_started_;
  core::TimePoint now_;
  std::optional<uint64_t> draw_;
};

// A reactor on the test's own clock. At the end nothing of it may be in use any more.
class ManualReactorTest : public ::testing::Test {
 protected:
  ManualReactorTest() {
    auto pool = std::make_unique<core::BufferPool>();
    auto inner = core::MakeEpollBackend(*pool, {});
    EXPECT_TRUE(inner.ok()) << inner.status();
    auto backend = std::make_unique<ManualBackend>(*std::move(inner));
    backend_ = backend.get();
    reactor_ = std::make_unique<core::Reactor>(std::move(pool), std::move(backend), 0, "");
  }

  [[nodiscard]] core::Reactor& reactor() { return *reactor_; }
  [[nodiscard]] ManualBackend& backend() { return *backend_; }
  [[nodiscard]] core::Slice Bytes(std::string_view text) { return reactor_->buffers().Copy(text); }
  // Any number of bytes, in slices as large as blocks are.
  template <typename Stream>
  void SendAll(Stream& stream, std::string_view text) {
    for (; !text.empty(); text.remove_prefix(std::min(text.size(), core::BufferPool::kMaxBlockBytes))) {
      stream.Send(Bytes(text.substr(0, core::BufferPool::kMaxBlockBytes)));
    }
  }

  // Turns until nothing in memory is left to do. Time stands still.
  void Settle() {
    for (int i = 0; i < 8; ++i) reactor_->Turn(reactor_->backend().Now());
  }
  // Turns until `done`, while time stands still; false when the kernel takes longer than a test may.
  [[nodiscard]] bool RunUntil(const std::function<bool()>& done) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (!done()) {
      if (std::chrono::steady_clock::now() > limit) return false;
      reactor_->Turn(reactor_->backend().Now() + std::chrono::milliseconds(1));
    }
    return true;
  }
  // Lets `time` pass from timer to timer.
  void RunFor(core::Duration time) {
    const core::TimePoint end = backend_->Now() + time;
    Settle();
    while (backend_->Now() < end) {
      const core::TimePoint now = backend_->Now();
      const core::TimePoint next = std::clamp(reactor_->timers().NextDeadline(), now + std::chrono::milliseconds(1),
                                              std::max(end, now + std::chrono::milliseconds(1)));
      backend_->Advance(std::min(next, end) - now);
      Settle();
    }
  }

 private:
  std::unique_ptr<core::Reactor> reactor_;
  ManualBackend* backend_ = nullptr;
};

}  // namespace tunnel::net
