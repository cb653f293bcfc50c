// A doubly linked list whose links live in its elements: no allocation, removal in O(1), an element may leave by
// itself.
#pragma once

#include <cstddef>

#include "core/check.h"

namespace tunnel::core {

// Base of an element. Leaves its list when destroyed. An element is in at most one list per link base; `Tag` tells
// several bases of one class apart.
template <typename Tag = void>
class ListLink {
 public:
  ListLink() = default;
  ListLink(const ListLink&) = delete;
  ListLink& operator=(const ListLink&) = delete;
  ~ListLink() { Unlink(); }

  [[nodiscard]] bool linked() const { return next_ != nullptr; }
  void Unlink() {
    if (!linked()) return;
    previous_->next_ = next_;
    next_->previous_ = previous_;
    next_ = previous_ = nullptr;
  }

 private:
  template <typename T, typename Tag2>
  friend class IntrusiveList;
  ListLink* next_ = nullptr;
  ListLink* previous_ = nullptr;
};

template <typename T, typename Tag = void>
class IntrusiveList {
 public:
  IntrusiveList() { head_.next_ = head_.previous_ = &head_; }
  IntrusiveList(const IntrusiveList&) = delete;
  IntrusiveList& operator=(const IntrusiveList&) = delete;
  ~IntrusiveList() {
    while (!empty()) head_.next_->Unlink();  // without naming T, which may be incomplete here
    head_.next_ = head_.previous_ = nullptr;
  }

  [[nodiscard]] bool empty() const { return head_.next_ == &head_; }
  [[nodiscard]] T& front() {
    TUNNEL_CHECK(!empty());
    return *static_cast<T*>(head_.next_);
  }
  void PushBack(T& element) {
    ListLink<Tag>& link = element;
    TUNNEL_CHECK(!link.linked());
    link.previous_ = head_.previous_;
    link.next_ = &head_;
    head_.previous_->next_ = &link;
    head_.previous_ = &link;
  }
  T& PopFront() {
    T& element = front();
    ListLink<Tag>& link = element;
    // By way of the head, not of Unlink(): so the static analyzer sees that the element is no longer here.
    head_.next_ = link.next_;
    head_.next_->previous_ = &head_;
    link.next_ = link.previous_ = nullptr;
    return element;
  }
  // Moves every element of `other` to the end of this list.
  void Append(IntrusiveList& other) {
    while (!other.empty()) PushBack(other.PopFront());
  }
  // Calls `visit` on every element; `visit` may remove the element it is called with and no other.
  template <typename Visit>
  void ForEach(Visit visit) {
    for (ListLink<Tag>* at = head_.next_; at != &head_;) {
      ListLink<Tag>* next = at->next_;
      visit(*static_cast<T*>(at));
      at = next;
    }
  }
  // Whether the links are sound; for tests.
  [[nodiscard]] bool Validate() const {
    const ListLink<Tag>* at = &head_;
    do {
      if (at->next_ == nullptr || at->next_->previous_ != at) return false;
      at = at->next_;
    } while (at != &head_);
    return true;
  }

 private:
  ListLink<Tag> head_;
};

}  // namespace tunnel::core
