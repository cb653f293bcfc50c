// What the two ends of a measurement say to each other through the tunnel. Both run on one machine: host byte order.
//
// The application sends a Hello on every connection. Then, by mode:
//   upload    target: kReady. application: blocks, the last one marked. target: a Report. application closes.
//   download  target: kReady. application: kGo. target: blocks, the last one marked. application closes.
//   flood     target: zeros without end, until the application, which does not read them, closes.
//   answer    application: `size` bytes, which the target sends back; again and again until the application closes.
//
// A block is kBlockBytes long and begins with a BlockHead, so that a lost, doubled or displaced byte is noticed at the
// next block, and the count of bytes is checked at the last one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace tunnel::bench {

inline constexpr uint32_t kHelloMagic = 0x4F4C4845;
inline constexpr uint32_t kBlockMagic = 0x4B4F4C42;
inline constexpr uint8_t kReady = 'R';
inline constexpr uint8_t kGo = 'G';

// One receive or send is at most this: as large as the kernel makes good use of, and small enough to stay in L2.
inline constexpr size_t kBlockBytes = 256 * 1024;
inline constexpr size_t kAnswerLimitBytes = 64 * 1024;
// A stream ends after this many bytes whatever the clock says.
inline constexpr uint64_t kStreamLimitBlocks = (uint64_t{256} << 30) / kBlockBytes;

enum class Mode : uint32_t { kUpload = 1, kDownload = 2, kAnswer = 3, kFlood = 4 };

struct Hello {
  uint32_t magic = kHelloMagic;
  Mode mode = Mode::kAnswer;
  uint64_t run = 0;          // streams of one run share it: their time starts with the first block of any of them
  uint32_t duration_ms = 0;  // upload, download
  uint32_t size = 0;         // answer
};

struct BlockHead {
  uint32_t magic = kBlockMagic;
  uint32_t last = 0;
  uint64_t sequence = 0;  // from 0
};

// What the receiver of an upload counted.
struct Report {
  uint64_t total_bytes = 0;
  uint64_t window_bytes = 0;  // within the run's duration
};

static_assert(std::is_trivially_copyable_v<Hello> && sizeof(Hello) == 24);
static_assert(std::is_trivially_copyable_v<BlockHead> && sizeof(BlockHead) == 16);
static_assert(std::is_trivially_copyable_v<Report> && sizeof(Report) == 16);

}  // namespace tunnel::bench
