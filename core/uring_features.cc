#include "core/uring_features.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "core/uring_buffers.h"

namespace tunnel::core {
namespace {

struct Named {
  const char* name;
  bool UringFeatures::* field;
};

constexpr std::array<Named, 5> kNamed = {{
    {"single-issuer", &UringFeatures::single_issuer},
    {"registered-ring", &UringFeatures::registered_ring},
    {"multishot-accept", &UringFeatures::multishot_accept},
    {"multishot-receive", &UringFeatures::multishot_receive},
    {"multishot-datagrams", &UringFeatures::multishot_datagrams},
}};
constexpr std::array<const char*, 5> kNames = {"single-issuer", "registered-ring", "multishot-accept",
                                               "multishot-receive", "multishot-datagrams"};

int SetUp(io_uring& ring, bool single_issuer) {
  io_uring_params params{};
  if (single_issuer) params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
  return io_uring_queue_init_params(8, &ring, &params);
}

// Whether a multishot receive into a provided-buffer ring delivers a byte and stays armed: no version tells. With
// `message` it is a receive of datagrams that delivers their sender too.
bool TryMultishotReceive(io_uring& ring, bool message) {
  constexpr size_t kBytes = 256;
  constexpr unsigned kEntries = 2;
  alignas(4096) static thread_local std::array<uint8_t, 4096> ring_memory;
  std::array<uint8_t, kBytes * kEntries> buffers{};
  auto* buffer_ring = reinterpret_cast<io_uring_buf_ring*>(ring_memory.data());
  ring_memory.fill(0);
  io_uring_buf_reg registration{};
  registration.ring_addr = reinterpret_cast<uint64_t>(buffer_ring);
  registration.ring_entries = kEntries;
  if (io_uring_register_buf_ring(&ring, &registration, 0) != 0) return false;
  io_uring_buf_ring_init(buffer_ring);
  for (unsigned i = 0; i < kEntries; ++i) {
    ProvideBuffer(*buffer_ring, kEntries, buffers.data() + i * kBytes, kBytes, static_cast<uint16_t>(i));
  }

  std::array<int, 2> pair{};
  const int type = message ? SOCK_DGRAM : SOCK_STREAM;
  if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair.data()) != 0) return false;
  bool works = false;
  io_uring_sqe* sqe = io_uring_get_sqe(&ring);
  msghdr header{};
  header.msg_namelen = sizeof(sockaddr_storage);
  if (message) {
    io_uring_prep_recvmsg_multishot(sqe, pair[0], &header, 0);
  } else {
    io_uring_prep_recv_multishot(sqe, pair[0], nullptr, 0, 0);
  }
  sqe->flags |= IOSQE_BUFFER_SELECT;
  sqe->buf_group = 0;
  io_uring_sqe_set_data(sqe, &header);
  if (send(pair[1], "x", 1, MSG_NOSIGNAL) == 1 && io_uring_submit_and_wait(&ring, 1) >= 0) {
    io_uring_cqe* cqe = nullptr;
    if (io_uring_peek_cqe(&ring, &cqe) == 0) {
      works = (cqe->flags & IORING_CQE_F_MORE) != 0;
      if (message) {
        uint8_t* const buffer = buffers.data() + (cqe->flags >> IORING_CQE_BUFFER_SHIFT) * kBytes;
        io_uring_recvmsg_out* out = works ? io_uring_recvmsg_validate(buffer, cqe->res, &header) : nullptr;
        works = out != nullptr && out->payloadlen == 1;
      } else {
        works = works && cqe->res == 1;
      }
      io_uring_cqe_seen(&ring, cqe);
    }
  }
  if (works) {
    // Ends the receive, which is still armed, and takes its last completion and that of the cancellation.
    io_uring_sqe* cancel = io_uring_get_sqe(&ring);
    io_uring_prep_cancel(cancel, &header, 0);
    (void)io_uring_submit_and_wait(&ring, 2);
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring, &cqe) == 0) io_uring_cqe_seen(&ring, cqe);
  }
  close(pair[1]);
  close(pair[0]);
  (void)io_uring_unregister_buf_ring(&ring, 0);
  return works;
}

}  // namespace

std::string UringFeatures::Describe() const {
  std::string text;
  for (const Named& named : kNamed) {
    if (!(this->*named.field)) continue;
    if (!text.empty()) text += ' ';
    text += named.name;
  }
  return text.empty() ? "no optional features" : text;
}

std::span<const char* const> UringFeatureNames() { return kNames; }

UringFeatures ProbeUring(const std::vector<std::string>& disabled, std::string& error) {
  UringFeatures features;
  for (const Named& named : kNamed) {
    if (std::find(disabled.begin(), disabled.end(), named.name) != disabled.end()) features.*named.field = false;
  }
  io_uring ring{};
  int result = SetUp(ring, features.single_issuer);
  if (result == -EINVAL && features.single_issuer) {
    features.single_issuer = false;
    result = SetUp(ring, false);
  }
  if (result != 0) {
    error = std::string("io_uring_setup: ") + std::strerror(-result);
    return features;
  }
  const std::unique_ptr<io_uring_probe, decltype(&io_uring_free_probe)> probe(io_uring_get_probe_ring(&ring),
                                                                              &io_uring_free_probe);
  for (const int opcode : {IORING_OP_ACCEPT, IORING_OP_RECV, IORING_OP_RECVMSG, IORING_OP_SENDMSG, IORING_OP_CONNECT,
                           IORING_OP_POLL_ADD, IORING_OP_ASYNC_CANCEL}) {
    if (probe == nullptr || io_uring_opcode_supported(probe.get(), opcode) == 0) {
      error = "the kernel's io_uring lacks operations that are needed (Linux 5.19 has them)";
    }
  }
  if (error.empty()) {
    const bool receive_works = TryMultishotReceive(ring, false);
    const bool message_works = TryMultishotReceive(ring, true);
    features.multishot_receive = features.multishot_receive && receive_works;
    features.multishot_datagrams = features.multishot_datagrams && message_works;
    // Multishot accept came with 5.19, as did provided-buffer rings, without which a ring is refused below.
  }
  io_uring_queue_exit(&ring);
  return features;
}

}  // namespace tunnel::core
