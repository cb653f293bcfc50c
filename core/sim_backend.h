// The Backend of one reactor in a simulated world: completions over the calls of SimNetwork.
//
// It does what either real backend may do, by the dice: completions are made all at once and delivered after (io_uring)
// or made one by one as they are delivered (epoll); what had arrived reaches a cancelled operation or does not;
// receives find no buffer and wait. Failing calls are drawn from SimErrnosOf().
#pragma once

#include <deque>
#include <vector>

#include "core/backend.h"
#include "core/sim_receive_buffers.h"
#include "core/sim_world.h"

namespace tunnel::core {

class SimBackend final : public Backend, SimWatcher {
 public:
  // `pool` must outlive it, and the world must.
  SimBackend(SimWorld& world, SimHost host, unsigned number, BufferPool& pool);
  ~SimBackend() override;

  [[nodiscard]] std::string Describe() const override { return "sim"; }
  void Start(Operation& operation) override;
  void Cancel(Operation& operation) override;
  [[nodiscard]] IoError OpenStream(int family, int& descriptor) override;
  [[nodiscard]] IoError Listen(int descriptor, const SocketAddress& address, bool share_port) override;
  [[nodiscard]] SocketAddress LocalAddress(int descriptor) override { return network().LocalAddress(descriptor); }
  [[nodiscard]] SocketAddress PeerAddress(int descriptor) override { return network().PeerAddress(descriptor); }
  void SetNoDelay(int descriptor) override;
  void LimitUnsent(int descriptor, unsigned bytes) override;
  [[nodiscard]] IoError OpenDatagram(const SocketAddress& address, int& descriptor) override;
  [[nodiscard]] IoError ConnectDatagram(int descriptor, const SocketAddress& peer) override;
  [[nodiscard]] DatagramsSent SendDatagrams(int descriptor, std::span<const OutgoingDatagram> datagrams) override;
  [[nodiscard]] IoError SetCongestionControl(int descriptor, const std::string& algorithm) override;
  void ShutdownWrite(int descriptor) override { network().ShutdownWrite(descriptor); }
  void Abort(int descriptor, bool reset) override;
  void Close(int descriptor) override;
  void Detach(int descriptor) override;
  [[nodiscard]] TimePoint Now() override { return world_.now(); }
  [[nodiscard]] int64_t WallSeconds() override { return world_.wall_seconds(); }
  void FillRandom(std::span<uint8_t> out) override { random_.Fill(out); }
  void Poll(TimePoint deadline) override;
  void Wake() override { woken_ = true; }
  [[nodiscard]] size_t receive_buffers_in_use() const override {
    return stream_buffers_.lent() + datagram_buffers_.lent();
  }

  // --- for the world ---
  void set_reactor(Reactor& reactor) { reactor_ = &reactor; }
  [[nodiscard]] Reactor& reactor() const { return *reactor_; }
  // When its reactor has something to do, if nothing happens before.
  [[nodiscard]] TimePoint NextTurn() const;
  void StallUntil(TimePoint when) { stalled_until_ = std::max(stalled_until_, when); }
  void LimitBuffers(std::optional<unsigned> buffers);
  [[nodiscard]] unsigned number() const { return number_; }
  // Turns in a row that had nothing to deliver.
  [[nodiscard]] unsigned empty_turns() const { return empty_turns_; }

 private:
  // The operations of one descriptor.
  struct Slots {
    Operation* in = nullptr;
    Operation* out = nullptr;
    bool connecting = false;
  };
  struct Made {
    Operation* operation = nullptr;
    Completion completion;
    SocketAddress source;
    bool has_source = false;
  };
  enum class Step { kNothing, kCompletion };

  [[nodiscard]] SimNetwork& network() const { return world_.network(); }
  [[nodiscard]] Slots& At(int descriptor);
  void OnSocketReady(int descriptor, bool in, bool out) override;
  void MakeReady(Operation* operation);
  // Makes the next completion of `operation`, if there is one now.
  [[nodiscard]] Step MakeCompletion(Operation& operation, Made& made);
  [[nodiscard]] Step MakeLive(Operation& operation, Completion& completion, Made& made);
  [[nodiscard]] Step Accept(Operation& operation, Completion& completion);
  [[nodiscard]] Step Receive(Operation& operation, Completion& completion);
  [[nodiscard]] Step ReceiveDatagram(Operation& operation, Completion& completion, Made& made);
  [[nodiscard]] Step Send(const Operation& operation, Completion& completion);
  [[nodiscard]] Step Connect(const Operation& operation, Completion& completion);
  // The errno with which a call on an established connection is to fail, having done to it what that means.
  [[nodiscard]] int FailOnConnection(SimFault call, int descriptor);
  void Deliver(Made& made);
  void DeliverAtOnce(const std::vector<Operation*>& operations);
  void DeliverOneByOne(const std::vector<Operation*>& operations);
  // Lets it wait until buffers are back.
  Step Starve(Operation& operation, IntrusiveList<Operation, BackendList>& starved);
  void Rearm();

  SimWorld& world_;
  const SimHost host_;
  const unsigned number_;
  BufferPool& pool_;
  Reactor* reactor_ = nullptr;
  SimRandom random_;  // what the program draws
  SimRandom order_;   // what this backend draws
  SimReceiveBuffers stream_buffers_;
  SimReceiveBuffers datagram_buffers_;
  std::vector<Slots> slots_;  // by descriptor
  IntrusiveList<Operation, BackendList> ready_;
  // Receives that found no buffer, of each kind.
  IntrusiveList<Operation, BackendList> starved_;
  IntrusiveList<Operation, BackendList> starved_datagrams_;
  size_t started_ = 0;
  size_t delivered_ = 0;
  unsigned empty_turns_ = 0;
  bool woken_ = false;
  TimePoint sleeps_until_;
  TimePoint stalled_until_;
};

}  // namespace tunnel::core
