// Every size and bound of core/ in one place, with how they relate.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tunnel::core {

// --- receive buffers handed to the kernel, per reactor ---
// 64 KiB: the size of an operation decides its cost (a 16 KiB receive costs three times as much CPU a byte).
inline constexpr size_t kReceiveBufferBytes = size_t{64} * 1024;
// 32 of them: 2 MiB, near one core's L2, so that a byte is still in cache when it is read the second time.
inline constexpr unsigned kReceiveBuffers = 32;
// With fewer than half of them free, a slice that is to be held (queued, parked) is copied out of the ring; a receive
// that met an empty ring is armed again only when half are back: at once would spin.
static_assert((kReceiveBuffers & (kReceiveBuffers - 1)) == 0, "the kernel wants a power of two");

// --- datagrams ---
// Buffers for them are apart: streams that hold theirs must not stop UDP, nor the other way round. Each takes the
// largest datagram (65,507 bytes; 65,527 over IPv6) and what io_uring writes before it; memory that small datagrams do
// not reach is never touched.
inline constexpr size_t kDatagramBufferBytes = size_t{68} * 1024;
inline constexpr unsigned kDatagramBuffers = 64;
static_assert((kDatagramBuffers & (kDatagramBuffers - 1)) == 0, "the kernel wants a power of two");
inline constexpr size_t kMaxDatagramBytes = 65527;
// Room for the control message that says that one message is several datagrams.
inline constexpr size_t kDatagramControlBytes = 24;
static_assert(kMaxDatagramBytes + 16 + 128 + kDatagramControlBytes <= kDatagramBufferBytes,
              "io_uring_recvmsg_out, an address and the control message go first");
// What the kernel coalesces is no larger than the largest datagram, so these buffers are enough for it.
// What is asked of the kernel for a socket's buffers; it gives less when net.core.rmem_max and wmem_max say so.
inline constexpr int kDatagramSocketBufferBytes = 4 * 1024 * 1024;
// Datagrams a socket collects in one turn before it hands them to the kernel, and what it collects at most in bytes.
inline constexpr size_t kDatagramsPerSend = 64;
inline constexpr size_t kDatagramBatchBytes = size_t{256} * 1024;
// Datagrams that leave as one message, and their bytes: what every kernel with UDP_SEGMENT takes (UDP_MAX_SEGMENTS was
// 64 before it was 128; the whole must fit one IPv4 packet).
inline constexpr size_t kSegmentsPerMessage = 64;
inline constexpr size_t kSegmentedMessageBytes = 65507;
static_assert(kSegmentsPerMessage >= kDatagramsPerSend, "a message is never cut short by their number alone");

// --- a socket's send queue ---
// Above high water writable() is false and producers pause; at low water they are called again.
inline constexpr size_t kSendHighWaterBytes = size_t{512} * 1024;
inline constexpr size_t kSendLowWaterBytes = size_t{128} * 1024;
static_assert(kSendLowWaterBytes < kSendHighWaterBytes);
// What a socket that is being closed reads and drops while it waits for the peer's end. A peer that goes on sending is
// cut off then; one that was only slow to stop is not, for a reset would destroy what it has not read.
inline constexpr size_t kLingerDiscardBytes = size_t{16} * 1024 * 1024;
// Slices one send operation gathers.
inline constexpr size_t kSendSlices = 32;
// Held slices smaller than this are copied together instead of pinning the large buffer they lie in.
inline constexpr size_t kCoalesceBytes = size_t{2} * 1024;

// --- the connection map ---
// It begins with 2^10 ranges (16 KiB) and ends with 2^24 (256 MiB), enough for 8 million entries at its usual pace;
// more than that still work, in longer ranges.
inline constexpr unsigned kConnMapMinLevel = 10;
inline constexpr unsigned kConnMapMaxLevel = 24;
// Entries a range has when there is to be twice the number of ranges: between a quarter and a half, so that a look-up
// meets hardly anybody else's entry.
inline constexpr size_t kConnMapRangesPerEntry = 2;
static_assert(kConnMapMinLevel < kConnMapMaxLevel);
// Inserts of one core after which it looks whether the map is to grow: that takes a look at every core's count.
inline constexpr unsigned kConnMapInsertsPerLook = 64;

// --- reactor ---
// Threads besides the reactors that may take part in the epochs of a group: tests, and what runs before the reactors.
inline constexpr unsigned kSpareEpochParticipants = 8;
inline constexpr unsigned kRingEntries = 1024;
inline constexpr unsigned kCompletionEntries = 8192;
inline constexpr size_t kMailboxMessages = 1024;

}  // namespace tunnel::core
