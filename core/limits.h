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
// Receives that met an empty ring are armed again only when this many buffers are back: at once would spin.
inline constexpr unsigned kReceiveRearmBuffers = kReceiveBuffers / 2;
// A slice that is to be held (queued, parked) is copied out of the ring when fewer free buffers than this are left.
inline constexpr unsigned kReceiveScarceBuffers = kReceiveBuffers / 2;
static_assert((kReceiveBuffers & (kReceiveBuffers - 1)) == 0, "the kernel wants a power of two");

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

// --- reactor ---
inline constexpr unsigned kRingEntries = 1024;
inline constexpr unsigned kCompletionEntries = 8192;
inline constexpr size_t kMailboxMessages = 1024;

}  // namespace tunnel::core
