// The sending half of a stream of mux/2 against a string with three offsets.
#include "net/mux_send_buffer.h"

#include <gtest/gtest.h>

#include <random>
#include <string>
#include <string_view>

namespace tunnel::net {
namespace {

std::string_view TextOf(std::span<const uint8_t> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Everything that is to be sent, in pieces of at most `most`.
std::string SendAllOf(MuxSendBuffer& buffer, size_t most) {
  std::string sent;
  while (buffer.unsent() > 0) {
    const std::span<const uint8_t> piece = buffer.Next(most);
    if (piece.empty()) break;
    sent += TextOf(piece);
    buffer.Sent(piece.size());
  }
  return sent;
}

TEST(MuxSendBuffer, SendsAgainFromWhereThePeerIs) {
  core::BufferPool pool;
  MuxSendBuffer buffer(pool);
  buffer.Append(pool.Copy("one two "));
  EXPECT_EQ(SendAllOf(buffer, 3), "one two ");
  buffer.Append(pool.Copy("three"));
  EXPECT_EQ(SendAllOf(buffer, 100), "three");
  ASSERT_TRUE(buffer.Rewind(4, false));
  EXPECT_EQ(buffer.released(), 4U);
  EXPECT_EQ(buffer.kept(), 9U);
  EXPECT_EQ(SendAllOf(buffer, 2), "two three");
  ASSERT_TRUE(buffer.OnConsumed(13, false));
  EXPECT_EQ(buffer.kept(), 0U);
  EXPECT_EQ(pool.blocks_in_use(), 0U);
}

TEST(MuxSendBuffer, FinGoesWithTheLastByteOrBehindIt) {
  core::BufferPool pool;
  MuxSendBuffer buffer(pool);
  buffer.Append(pool.Copy("abc"));
  EXPECT_FALSE(buffer.FinIsAt(3));
  buffer.Finish();
  EXPECT_TRUE(buffer.FinIsAt(3));
  EXPECT_FALSE(buffer.fin_due());  // bytes are left, it goes with them
  buffer.Sent(buffer.Next(2).size());
  EXPECT_FALSE(buffer.OnConsumed(2, true)) << "FIN was not sent";
  buffer.Sent(buffer.Next(2).size());
  EXPECT_FALSE(buffer.fin_due());
  EXPECT_FALSE(buffer.OnConsumed(2, true)) << "FIN is behind all bytes";

  ASSERT_TRUE(buffer.Rewind(3, false));  // FIN was lost with its channel
  EXPECT_TRUE(buffer.fin_due());
  buffer.Sent(0);
  EXPECT_FALSE(buffer.fin_due());
  EXPECT_FALSE(buffer.delivered());
  ASSERT_TRUE(buffer.OnConsumed(3, true));
  EXPECT_TRUE(buffer.delivered());
  EXPECT_FALSE(buffer.Rewind(3, false)) << "what was delivered cannot be missing";
}

class MuxSendBufferModel : public testing::TestWithParam<uint64_t> {};

TEST_P(MuxSendBufferModel, KeepsWhatIsNotConfirmedAndSendsEachByteInOrder) {
  std::mt19937_64 random(GetParam());
  const auto below = [&random](uint64_t limit) { return random() % limit; };
  core::BufferPool pool;
  {
    MuxSendBuffer buffer(pool);
    std::string all;
    uint64_t released = 0;
    uint64_t consumed = 0;
    uint64_t next = 0;
    bool finished = false;
    bool fin_sent = false;
    bool delivered = false;
    for (int i = 0; i < 4000; ++i) {
      switch (below(6)) {
        case 0:
        case 1: {
          if (finished) break;
          if (below(500) == 0) {
            buffer.Finish();
            finished = true;
            break;
          }
          std::string text(below(3) == 0 ? below(20'000) : below(300), '\0');
          for (char& c : text) c = static_cast<char>(random());
          buffer.Append(pool.Copy(text));
          all += text;
          break;
        }
        case 2:
        case 3: {
          const size_t most = below(2) == 0 ? below(20'000) : below(100);
          const std::span<const uint8_t> piece = buffer.Next(most);
          ASSERT_LE(piece.size(), most);
          ASSERT_EQ(piece.empty(), most == 0 || next == all.size());
          ASSERT_EQ(TextOf(piece), std::string_view(all).substr(next, piece.size()));
          const size_t sent = below(2) == 0 ? piece.size() : below(piece.size() + 1);
          const bool with_fin = finished && !fin_sent && next + sent == all.size();
          ASSERT_EQ(buffer.FinIsAt(next + sent), with_fin);
          buffer.Sent(sent);
          next += sent;
          fin_sent |= with_fin;
          break;
        }
        case 4: {
          const uint64_t to = below(4) == 0 ? below(all.size() + 2) : consumed + below(next - consumed + 1);
          const bool fin = below(8) == 0;
          const bool possible = to >= consumed && to <= next && (!fin || (fin_sent && to == all.size()));
          ASSERT_EQ(buffer.OnConsumed(to, fin), possible);
          if (!possible) break;
          consumed = to;
          released = std::max(released, to);
          delivered |= fin;
          break;
        }
        default: {
          if (below(10) != 0) break;
          const uint64_t to = below(4) == 0 ? below(all.size() + 2) : released + below(next - released + 1);
          const bool fin = delivered || (fin_sent && to == all.size() && below(2) == 0);
          const bool possible = to >= released && to <= next && (!fin || (fin_sent && to == all.size()));
          ASSERT_EQ(buffer.Rewind(to, fin), possible);
          if (!possible) break;
          released = next = to;
          fin_sent = fin;
        }
      }
      ASSERT_EQ(buffer.released(), released);
      ASSERT_EQ(buffer.next(), next);
      ASSERT_EQ(buffer.end(), all.size());
      ASSERT_EQ(buffer.kept(), all.size() - released);
      ASSERT_EQ(buffer.unsent(), all.size() - next);
      ASSERT_EQ(buffer.fin_due(), finished && !fin_sent && next == all.size());
      ASSERT_EQ(buffer.delivered(), delivered);
    }
    buffer.Clear();
    EXPECT_EQ(buffer.kept(), 0U);
    EXPECT_EQ(buffer.unsent(), 0U);
  }
  EXPECT_EQ(pool.blocks_in_use(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Seeds, MuxSendBufferModel, testing::Range<uint64_t>(1, 21));

}  // namespace
}  // namespace tunnel::net
