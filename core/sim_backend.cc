#include "core/sim_backend.h"

#include <algorithm>
#include <cerrno>

#include "core/kernel_calls.h"
#include "core/limits.h"
#include "core/sim_sockets.h"

namespace tunnel::core {
namespace {

// As much as one operation may do in a turn before others have theirs.
constexpr int kCompletionsPerTurn = 4;

bool Inward(OperationKind kind) {
  return kind == OperationKind::kAccept || kind == OperationKind::kReceive || kind == OperationKind::kReceiveDatagram;
}

}  // namespace

SimBackend::SimBackend(SimWorld& world, SimHost host, unsigned number, BufferPool& pool)
    : world_(world),
      host_(host),
      number_(number),
      pool_(pool),
      random_(world.random().Fork()),
      order_(world.random().Fork()),
      stream_buffers_(world.options().receive_buffers, world.options().receive_buffer_bytes),
      datagram_buffers_(kDatagramBuffers, kDatagramBufferBytes),
      sleeps_until_(world.now()),
      stalled_until_(world.now()) {
  world_.backends_.push_back(this);
}

SimBackend::~SimBackend() {
  TUNNEL_CHECK(started_ == 0);
  std::erase(world_.backends_, this);
}

// --- immediate calls ---

IoError SimBackend::OpenStream(int family, int& descriptor) {
  descriptor = -1;
  if (const int error = world_.DrawFailure(SimFault::kOpenStream, host_); error != 0) return FromErrno(error);
  return FromErrno(network().OpenStream(host_, family, descriptor));
}

IoError SimBackend::Listen(int descriptor, const SocketAddress& address, bool share_port) {
  if (const int error = world_.DrawFailure(SimFault::kListen, host_); error != 0) return FromErrno(error);
  return FromErrno(network().Listen(descriptor, address, share_port));
}

void SimBackend::SetNoDelay(int descriptor) { TUNNEL_CHECK(network().is_open(descriptor)); }

void SimBackend::LimitUnsent(int descriptor, unsigned bytes) {
  (void)bytes;  // its buffers are small as they are
  TUNNEL_CHECK(network().is_open(descriptor));
}

IoError SimBackend::SetCongestionControl(int descriptor, const std::string& algorithm) {
  TUNNEL_CHECK(network().is_open(descriptor));
  return algorithm.empty() ? IoError::kNotFound : IoError::kOk;
}

IoError SimBackend::OpenDatagram(const SocketAddress& address, int& descriptor) {
  descriptor = -1;
  if (const int error = world_.DrawFailure(SimFault::kOpenDatagram, host_); error != 0) return FromErrno(error);
  return FromErrno(network().OpenDatagram(host_, address, descriptor));
}

IoError SimBackend::ConnectDatagram(int descriptor, const SocketAddress& peer) {
  if (const int error = world_.DrawFailure(SimFault::kConnectDatagram, host_); error != 0) return FromErrno(error);
  return FromErrno(network().ConnectDatagram(descriptor, peer));
}

DatagramsSent SimBackend::SendDatagrams(int descriptor, std::span<const OutgoingDatagram> datagrams) {
  DatagramsSent result;
  for (const OutgoingDatagram& datagram : datagrams) {
    const int failure = world_.DrawFailure(SimFault::kSendDatagram, host_);
    if (failure == EAGAIN) break;  // a full buffer: no room for the rest either
    if (failure != 0 || network().SendDatagram(descriptor, datagram.to, datagram.payload) != 0) continue;
    ++result.sent;
    result.bytes += datagram.payload.size();
  }
  return result;
}

void SimBackend::Abort(int descriptor, bool reset) {
  if (reset) {
    network().SetLingerReset(descriptor);
  } else {
    network().ShutdownBoth(descriptor);
  }
}

void SimBackend::Close(int descriptor) {
  Detach(descriptor);
  network().Close(descriptor);
}

void SimBackend::Detach(int descriptor) {
  Slots& slots = At(descriptor);
  TUNNEL_CHECK(slots.in == nullptr && slots.out == nullptr);
  slots = {};
  network().Watch(descriptor, nullptr);
}

// --- operations ---

SimBackend::Slots& SimBackend::At(int descriptor) {
  TUNNEL_CHECK(descriptor >= kFirstSimDescriptor);
  const auto index = static_cast<size_t>(descriptor - kFirstSimDescriptor);
  if (index >= slots_.size()) slots_.resize(index + 64);
  return slots_[index];
}

void SimBackend::MakeReady(Operation* operation) {
  if (operation != nullptr && !operation->linked()) ready_.PushBack(*operation);
}

void SimBackend::Start(Operation& operation) {
  TUNNEL_CHECK(!operation.started_);
  operation.started_ = true;
  operation.cancelled_ = false;
  operation.ready_events_ = 0;
  ++started_;
  if (operation.kind != OperationKind::kPoll) {
    Slots& slots = At(operation.descriptor);
    Operation*& slot = Inward(operation.kind) ? slots.in : slots.out;
    TUNNEL_CHECK(slot == nullptr);
    slot = &operation;
    network().Watch(operation.descriptor, this);
  }
  MakeReady(&operation);
}

void SimBackend::Cancel(Operation& operation) {
  if (!operation.started_ || operation.cancelled_) return;
  operation.cancelled_ = true;
  // Whether what it had reached is still told.
  operation.ready_events_ = order_.Chance(world_.chaos().late_cancel) ? 1 : 0;
  if (operation.kind != OperationKind::kPoll) {
    world_.Trace(SimEvent::kCancel, network().SerialOf(operation.descriptor), static_cast<uint64_t>(operation.kind), 0);
  }
  if (operation.linked()) operation.Unlink();  // from those that wait for a buffer, perhaps
  MakeReady(&operation);
}

void SimBackend::OnSocketReady(int descriptor, bool in, bool out) {
  const Slots& slots = At(descriptor);
  if (in) MakeReady(slots.in);
  if (out) MakeReady(slots.out);
}

SimBackend::Step SimBackend::Starve(Operation& operation, IntrusiveList<Operation, BackendList>& starved) {
  if (operation.cancelled_) return Step::kNothing;
  if (operation.linked()) operation.Unlink();
  starved.PushBack(operation);
  return Step::kNothing;
}

void SimBackend::Rearm() {
  if (stream_buffers_.recovered()) ready_.Append(starved_);
  if (datagram_buffers_.recovered()) ready_.Append(starved_datagrams_);
}

void SimBackend::LimitBuffers(std::optional<unsigned> buffers) {
  stream_buffers_.Limit(buffers);
  Rearm();
}

// --- completions ---

int SimBackend::FailOnConnection(SimFault call, int descriptor) {
  const int error = world_.DrawFailure(call, host_);
  if (error == 0) return 0;
  if (SimErrnoKills(error)) {
    network().Kill(descriptor);
  } else {
    network().MarkHit(descriptor);
  }
  return error;
}

SimBackend::Step SimBackend::Accept(Operation& operation, Completion& completion) {
  if (!network().WouldReceive(operation.descriptor)) return Step::kNothing;
  int error = world_.DrawFailure(SimFault::kAccept, host_);
  if (error == 0) error = network().Accept(operation.descriptor, completion.descriptor);
  completion.error = FromErrno(error);
  completion.more = error == 0;
  return Step::kCompletion;
}

SimBackend::Step SimBackend::Receive(Operation& operation, Completion& completion) {
  const int descriptor = operation.descriptor;
  if (!network().WouldReceive(descriptor)) return Step::kNothing;
  std::optional<Slice> buffer = stream_buffers_.Take();
  if (!buffer.has_value()) return Starve(operation, starved_);
  size_t room = buffer->size();
  if (order_.Chance(world_.chaos().short_receive)) room = order_.Between(1, room);
  int error = FailOnConnection(SimFault::kReceive, descriptor);
  if (error == 0) error = network().Receive(descriptor, buffer->bytes().first(room), completion.bytes);
  completion.error = FromErrno(error);
  completion.more = completion.bytes > 0;
  if (completion.bytes > 0) {
    stream_buffers_.NoteUse(*buffer->buffer(), completion.bytes);
    buffer->Truncate(completion.bytes);
    completion.data = *std::move(buffer);
    if (stream_buffers_.scarce()) completion.data = pool_.Copy(completion.data.bytes());
  }
  return Step::kCompletion;
}

SimBackend::Step SimBackend::ReceiveDatagram(Operation& operation, Completion& completion, Made& made) {
  const int descriptor = operation.descriptor;
  if (!network().WouldReceive(descriptor)) return Step::kNothing;
  std::optional<Slice> buffer = datagram_buffers_.Take();
  if (!buffer.has_value()) return Starve(operation, starved_datagrams_);
  int error = world_.DrawFailure(SimFault::kReceiveDatagram, host_);
  if (error == 0) {
    error = network().ReceiveDatagram(descriptor, buffer->bytes(), completion.bytes, made.source, completion.truncated);
  }
  if (error != 0) {
    const std::optional<IoError> passing = PassingDatagramError(error);
    completion.error = passing.value_or(FromErrno(error));
    completion.more = passing.has_value();
    return Step::kCompletion;
  }
  datagram_buffers_.NoteUse(*buffer->buffer(), completion.bytes);
  buffer->Truncate(completion.bytes);
  completion.data = *std::move(buffer);
  if (datagram_buffers_.scarce()) completion.data = pool_.Copy(completion.data.bytes());
  completion.more = true;
  made.has_source = true;
  return Step::kCompletion;
}

SimBackend::Step SimBackend::Send(const Operation& operation, Completion& completion) {
  const int descriptor = operation.descriptor;
  const std::span<const iovec> vectors(operation.message->msg_iov, operation.message->msg_iovlen);
  size_t limit = 0;
  for (const iovec& vector : vectors) limit += vector.iov_len;
  if (order_.Chance(world_.chaos().short_send)) limit = order_.Between(1, limit);
  int error = FailOnConnection(SimFault::kSend, descriptor);
  if (error == 0) error = network().Send(descriptor, vectors, limit, completion.bytes);
  if (error == EAGAIN) return Step::kNothing;
  completion.error = FromErrno(error);
  return Step::kCompletion;
}

SimBackend::Step SimBackend::Connect(const Operation& operation, Completion& completion) {
  Slots& slots = At(operation.descriptor);
  int error = 0;
  if (!slots.connecting) {
    slots.connecting = true;
    error = world_.DrawFailure(SimFault::kConnect, host_);
    if (error == 0) error = network().Connect(operation.descriptor, *operation.address);
    if (error == EINPROGRESS) return Step::kNothing;
  } else {
    error = network().ConnectResult(operation.descriptor);
    if (error == EINPROGRESS) return Step::kNothing;
  }
  completion.error = FromErrno(error);
  return Step::kCompletion;
}

SimBackend::Step SimBackend::MakeLive(Operation& operation, Completion& completion, Made& made) {
  switch (operation.kind) {
    case OperationKind::kAccept:
      return Accept(operation, completion);
    case OperationKind::kReceive:
      return Receive(operation, completion);
    case OperationKind::kReceiveDatagram:
      return ReceiveDatagram(operation, completion, made);
    case OperationKind::kSend:
      return Send(operation, completion);
    case OperationKind::kConnect:
      return Connect(operation, completion);
    case OperationKind::kPoll:
      // Libraries' own descriptors are no part of a simulated world.
      completion.error = IoError::kOther;
      return Step::kCompletion;
  }
  return Step::kNothing;
}

SimBackend::Step SimBackend::MakeCompletion(Operation& operation, Made& made) {
  made = {};
  made.operation = &operation;
  if (!operation.cancelled_) return MakeLive(operation, made.completion, made);
  if (std::exchange(operation.ready_events_, 0) != 0 &&
      !(operation.kind == OperationKind::kConnect && !At(operation.descriptor).connecting) &&
      MakeLive(operation, made.completion, made) == Step::kCompletion) {
    return Step::kCompletion;
  }
  made.completion = {};
  made.completion.error = IoError::kCancelled;
  return Step::kCompletion;
}

void SimBackend::Deliver(Made& made) {
  Operation& operation = *made.operation;
  ++delivered_;
  if (made.has_source) made.completion.source = &made.source;
  world_.Trace(SimEvent::kCompletion,
               operation.kind == OperationKind::kPoll ? 0 : network().SerialOf(operation.descriptor),
               static_cast<uint64_t>(operation.kind), static_cast<uint64_t>(made.completion.error));
  if (!made.completion.more) {
    if (operation.linked()) operation.Unlink();
    operation.started_ = false;
    --started_;
    if (operation.kind != OperationKind::kPoll) {
      Slots& slots = At(operation.descriptor);
      (Inward(operation.kind) ? slots.in : slots.out) = nullptr;
    }
  }
  operation.on_complete(operation, made.completion);
}

void SimBackend::DeliverAtOnce(const std::vector<Operation*>& operations) {
  // By descriptor: what one socket's operations found is told in the order in which they found it. A send that was told
  // of a reset leaves an end of stream to the receive behind it, and nobody must hear of that first.
  std::vector<std::deque<Made>> made;
  for (Operation* operation : operations) {
    const auto same = std::find_if(made.begin(), made.end(), [&](const std::deque<Made>& other) {
      return other.front().operation->descriptor == operation->descriptor;
    });
    std::deque<Made> fresh;
    std::deque<Made>& own = same == made.end() ? fresh : *same;
    bool more = true;
    for (int i = 0; i < kCompletionsPerTurn && more; ++i) {
      Made next;
      if (MakeCompletion(*operation, next) == Step::kNothing) {
        more = false;
      } else {
        more = next.completion.more;
        own.push_back(std::move(next));
      }
    }
    if (more) MakeReady(operation);
    if (!fresh.empty()) made.push_back(std::move(fresh));
  }
  while (!made.empty()) {
    const size_t which = world_.chaos().reorder ? order_.Below(made.size()) : 0;
    Made next = std::move(made[which].front());
    made[which].pop_front();
    if (made[which].empty()) made.erase(made.begin() + static_cast<std::ptrdiff_t>(which));
    Deliver(next);
  }
}

void SimBackend::DeliverOneByOne(const std::vector<Operation*>& operations) {
  for (Operation* operation : operations) {
    for (int i = 0;; ++i) {
      if (i == kCompletionsPerTurn) {
        MakeReady(operation);
        break;
      }
      Made made;
      if (MakeCompletion(*operation, made) == Step::kNothing) break;
      const bool more = made.completion.more;
      Deliver(made);
      if (!more) break;
    }
  }
}

void SimBackend::Poll(TimePoint deadline) {
  Rearm();
  world_.RunDue();
  if (!world_.running()) {
    // Turning costs something, or whoever waits for what never comes would wait in no time for ever.
    world_.Advance(world_.now() + std::chrono::microseconds(1));
    while (ready_.empty() && !woken_ && world_.now() < deadline) world_.Advance(deadline);
  }
  woken_ = false;
  AfterWait();
  delivered_ = 0;
  IntrusiveList<Operation, BackendList> batch;
  batch.Append(ready_);
  std::vector<Operation*> operations;
  while (!batch.empty()) {
    Operation& operation = batch.PopFront();
    if (!operation.cancelled_ && order_.Chance(world_.chaos().late_completion)) {
      ready_.PushBack(operation);
    } else {
      operations.push_back(&operation);
    }
  }
  if (world_.chaos().reorder) {
    for (size_t i = operations.size(); i > 1; --i) std::swap(operations[i - 1], operations[order_.Below(i)]);
  }
  if (world_.chaos().reorder && order_.Below(2) == 0) {
    DeliverOneByOne(operations);
  } else {
    DeliverAtOnce(operations);
  }
  // After completions the reactor has things to do before it may sleep.
  sleeps_until_ = delivered_ > 0 ? world_.now() : deadline;
  empty_turns_ = delivered_ > 0 ? 0 : empty_turns_ + 1;
  if (delivered_ > 0) world_.Trace(SimEvent::kTurn, number_, delivered_, 0);
}

TimePoint SimBackend::NextTurn() const {
  const TimePoint wanted = woken_ || !ready_.empty() ? world_.now() : sleeps_until_;
  return std::max(wanted, stalled_until_);
}

}  // namespace tunnel::core
