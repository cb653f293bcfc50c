#include "core/sip_hash.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace tunnel::core {
namespace {

// As in the authors' tests, the key is 00 01 .. 0f and the message 00 01 02 .... Lengths 0 and 1 are in their vectors;
// the others are what OpenSSL's SIPHASH gives, with c-rounds and d-rounds for SipHash-1-3.
constexpr SipHashKey kVectorKey{.low = 0x0706050403020100, .high = 0x0f0e0d0c0b0a0908};

std::vector<uint8_t> VectorMessage(size_t length) {
  std::vector<uint8_t> message;
  for (size_t i = 0; i < length; ++i) message.push_back(static_cast<uint8_t>(i));
  return message;
}

TEST(SipHashTest, WideAsTheReference) {
  struct Case {
    size_t length;
    SipHash128 hash;
  };
  for (const Case& vector : {
           Case{0, {0xe6a825ba047f81a3, 0x930255c71472f66d}},
           Case{1, {0x44af996bd8c187da, 0x45fc229b11597634}},
           Case{8, {0x61f55862baa9623b, 0xb49714f364e2830f}},
           Case{15, {0x11a8b03399e99354, 0xd9c3cf970fec087e}},
           Case{36, {0x4648c4291f7dc43d, 0x11674f90ed769e1e}},
           Case{63, {0x4a83502f77d15051, 0x7cbd3f979a063e50}},
       }) {
    EXPECT_EQ(SipHash24Wide(kVectorKey, VectorMessage(vector.length)), vector.hash) << vector.length;
  }
}

TEST(SipHashTest, OfThreeWordsAsOfTheirBytes) {
  EXPECT_EQ(SipHash13(kVectorKey, {0x0706050403020100, 0x0f0e0d0c0b0a0908, 0x1716151413121110}), 0xf464aeb267349c8cU);
}

TEST(SipHashTest, EveryBitOfKeyAndMessageMatters) {
  std::set<uint64_t> hashes;
  hashes.insert(SipHash13(kVectorKey, {1, 2, 3}));
  for (int bit = 0; bit < 64; ++bit) {
    const uint64_t flip = uint64_t{1} << bit;
    hashes.insert(SipHash13({kVectorKey.low ^ flip, kVectorKey.high}, {1, 2, 3}));
    hashes.insert(SipHash13({kVectorKey.low, kVectorKey.high ^ flip}, {1, 2, 3}));
    hashes.insert(SipHash13(kVectorKey, {1 ^ flip, 2, 3}));
    hashes.insert(SipHash13(kVectorKey, {1, 2 ^ flip, 3}));
    hashes.insert(SipHash13(kVectorKey, {1, 2, 3 ^ flip}));
  }
  EXPECT_EQ(hashes.size(), 1 + 5 * 64U);
}

}  // namespace
}  // namespace tunnel::core
