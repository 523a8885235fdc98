#include "tools/repl/line_editor.h"

#include <fcntl.h>
#include <histedit.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <clocale>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <cwchar>
#include <filesystem>
#include <optional>

namespace flexc::repl {
namespace {

constexpr std::wstring_view kPrompt = L"flex> ";
constexpr int kMostHistory = 2000;
constexpr size_t kIndent = 4;

std::string narrow(std::wstring_view text) {
    std::string out;
    for (const wchar_t wide : text) {
        const auto c = static_cast<uint32_t>(wide);
        if (c < 0x80) {
            out += static_cast<char>(c);
        } else if (c < 0x800) {
            out += {static_cast<char>(0xC0 | c >> 6), static_cast<char>(0x80 | (c & 0x3F))};
        } else if (c < 0x10000) {
            out += {static_cast<char>(0xE0 | c >> 12), static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
        } else {
            out += {static_cast<char>(0xF0 | c >> 18), static_cast<char>(0x80 | (c >> 12 & 0x3F)),
                    static_cast<char>(0x80 | (c >> 6 & 0x3F)), static_cast<char>(0x80 | (c & 0x3F))};
        }
    }
    return out;
}

/// Malformed bytes become U+FFFD.
std::wstring widen(std::string_view text) {
    std::wstring out;
    for (size_t i = 0; i < text.size();) {
        const auto lead = static_cast<unsigned char>(text[i]);
        const size_t length = lead < 0x80 ? 1 : lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 0;
        uint32_t point = length == 1 ? lead : lead & (0xFFU >> (length + 1));
        bool good = length != 0 && i + length <= text.size();
        for (size_t j = 1; good && j < length; ++j) {
            good = (static_cast<unsigned char>(text[i + j]) & 0xC0) == 0x80;
            point = point << 6 | (static_cast<unsigned char>(text[i + j]) & 0x3FU);
        }
        out += good ? static_cast<wchar_t>(point) : L'\uFFFD';
        i += good ? length : 1;
    }
    return out;
}

int columns_of(wchar_t c) {
    return std::max(1, wcwidth(c));
}

struct Place {
    int row = 0, col = 0;
};

/// Where libedit puts each character, and one more place for the end.
std::vector<Place> lay_out(std::wstring_view text, int width) {
    std::vector<Place> out;
    Place at{0, static_cast<int>(kPrompt.size())};
    for (const wchar_t c : text) {
        if (c != L'\n' && c != L'\t' && at.col + columns_of(c) > width) at = {at.row + 1, 0};
        out.push_back(at);
        if (c == L'\n') {
            at = {at.row + 1, 0};
        } else if (c == L'\t') {
            do {
                if (++at.col >= width) at = {at.row + 1, 0};
            } while (at.col % 8 != 0);
        } else {
            at.col += columns_of(c);
            if (at.col >= width) at = {at.row + 1, 0};
        }
    }
    out.push_back(at);
    return out;
}

class EditLineEditor : public LineEditor {
public:
    EditLineEditor(EditorHooks hooks, std::string history, bool colour)
        : hooks_(std::move(hooks)), history_path_(std::move(history)), colour_(colour) {
        std::setlocale(LC_CTYPE, "");
        if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
        signals_ = Signals::take();
        edit_ = el_init("flexc", stdin, stdout, stderr);
        el_wset(edit_, EL_CLIENTDATA, this);
        el_wset(edit_, EL_PROMPT, &EditLineEditor::prompt);
        el_wset(edit_, EL_EDITOR, L"emacs");
        el_wset(edit_, EL_SIGNAL, 0);
        el_wset(edit_, EL_GETCFN, &EditLineEditor::get_char);
        bind_keys();
        load_history();
    }
    ~EditLineEditor() override {
        if (edit_) el_end(edit_);
        if (history_) history_wend(history_);
    }

    Read read(std::string* out) override {
        cancelled_ = keeps_returns_ = false;
        position_ = entries_.size();
        resize_if_needed(false);
        put("\x1b[?2004h");
        int count = 0;
        const wchar_t* line = el_wgets(edit_, &count);
        put("\x1b[?2004l");
        if (cancelled_) return Read::Cancelled;
        if (!line || count <= 0) {
            put("\n");
            return Read::End;
        }
        std::wstring text(line, static_cast<size_t>(count));
        while (!text.empty() && text.back() == L'\n') text.pop_back();
        *out = narrow(text);
        return Read::Line;
    }

    void remember(const std::string& input) override {
        const std::wstring wide = widen(input);
        if (wide.empty() || (!entries_.empty() && entries_.back() == wide)) return;
        entries_.push_back(wide);
        HistEventW event;
        history_w(history_, &event, H_ENTER, wide.c_str());
        if (history_path_.empty()) return;
        // Appended, so that sessions side by side keep each other's lines.
        const int fd = ::open(history_path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        std::FILE* file = fd < 0 ? nullptr : ::fdopen(fd, "a");
        if (!file) return;
        std::fseek(file, 0, SEEK_END);
        history_w(history_, &event, H_NSAVE_FP, size_t{1}, file);
        std::fclose(file);
    }

    void watch(int fd, std::function<bool(std::string*)> ready) override {
        watched_ = fd;
        ready_ = std::move(ready);
    }

private:
    static EditLineEditor& self(EditLine* edit) {
        void* data = nullptr;
        el_wget(edit, EL_CLIENTDATA, &data);
        return *static_cast<EditLineEditor*>(data);
    }
    static wchar_t* prompt(EditLine*) {
        static std::wstring text(kPrompt);
        return text.data();
    }

    void bind_keys() {
        const auto add = [&](const wchar_t* name, const wchar_t* help, unsigned char (*function)(EditLine*, int),
                             std::initializer_list<const wchar_t*> keys) {
            el_wset(edit_, EL_ADDFN, name, help, function);
            for (const wchar_t* key : keys) el_wset(edit_, EL_BIND, key, name, nullptr);
        };
        add(L"flex-enter", L"ends the input, or begins a line", [](EditLine* e, int) { return self(e).enter(false); }, {L"^M", L"^J"});
        add(L"flex-newline", L"begins a line", [](EditLine* e, int) { return self(e).enter(true); }, {L"\033^M", L"\033^J"});
        add(L"flex-complete", L"completes a word", [](EditLine* e, int) { return self(e).complete(); }, {L"^I"});
        add(L"flex-up", L"line above, or history", [](EditLine* e, int) { return self(e).vertical(-1); }, {L"\033[A", L"\033OA", L"^P"});
        add(L"flex-down", L"line below, or history", [](EditLine* e, int) { return self(e).vertical(1); }, {L"\033[B", L"\033OB", L"^N"});
        add(L"flex-paste", L"inserts what is pasted", [](EditLine* e, int) { return self(e).paste(); }, {L"\033[200~"});
        add(L"flex-cancel", L"clears the input", [](EditLine* e, int) { return self(e).cancel(); }, {L"^C"});
        add(L"flex-brace", L"a closing brace", [](EditLine* e, int) { return self(e).brace(); }, {L"}"});
        add(L"flex-ignore", L"nothing", [](EditLine*, int) { return static_cast<unsigned char>(CC_NORM); }, {L"\033[201~"});
        el_wset(edit_, EL_BIND, L"^R", L"em-inc-search-prev", nullptr);
        for (const auto& [key, name] :
             {std::pair{L"\033[H", L"ed-move-to-beg"}, std::pair{L"\033OH", L"ed-move-to-beg"}, std::pair{L"\033[F", L"ed-move-to-end"},
              std::pair{L"\033OF", L"ed-move-to-end"}, std::pair{L"\033[3~", L"ed-delete-next-char"},
              std::pair{L"\033[1;5C", L"em-next-word"}, std::pair{L"\033[1;5D", L"ed-prev-word"}})
            el_wset(edit_, EL_BIND, key, name, nullptr);
    }

    void load_history() {
        history_ = history_winit();
        HistEventW event;
        history_w(history_, &event, H_SETSIZE, kMostHistory);
        history_w(history_, &event, H_SETUNIQUE, 1);
        el_wset(edit_, EL_HIST, history_w, history_);
        if (history_path_.empty()) return;
        history_w(history_, &event, H_LOAD, history_path_.c_str());
        for (int status = history_w(history_, &event, H_LAST); status == 0; status = history_w(history_, &event, H_PREV)) {
            std::wstring text = event.str;
            while (!text.empty() && text.back() == L'\n') text.pop_back();
            entries_.push_back(std::move(text));
        }
        std::error_code error;
        if (std::filesystem::file_size(history_path_, error) > (1U << 20) && !error) {
            // Lines are only ever added: from time to time the file is written anew with those in use.
            const std::string fresh = history_path_ + "." + std::to_string(getpid());
            if (history_w(history_, &event, H_SAVE, fresh.c_str()) > 0) std::filesystem::rename(fresh, history_path_, error);
        }
    }

    // ---- what the buffer holds ----

    struct Buffer {
        std::wstring text;
        size_t cursor = 0;
    };
    [[nodiscard]] Buffer buffer() const {
        const LineInfoW* line = el_wline(edit_);
        return {std::wstring(line->buffer, line->lastchar), static_cast<size_t>(line->cursor - line->buffer)};
    }
    void insert(const std::wstring& text) { el_winsertstr(edit_, text.c_str()); }
    void replace(const std::wstring& text, size_t cursor) {
        const Buffer now = buffer();
        el_cursor(edit_, static_cast<int>(now.text.size()) - static_cast<int>(now.cursor));
        el_wdeletestr(edit_, static_cast<int>(now.text.size()));
        if (!text.empty()) el_winsertstr(edit_, text.c_str());
        el_cursor(edit_, static_cast<int>(cursor) - static_cast<int>(text.size()));
    }

    // ---- keys ----

    unsigned char enter(bool always_new_line) {
        const Buffer now = buffer();
        const std::string text = narrow(now.text);
        const size_t line = now.text.rfind(L'\n');
        const bool at_end = now.cursor == now.text.size();
        // A second Enter, on an empty line at the end, takes the text as it is.
        const bool empty_line = at_end && line != std::wstring::npos && now.text.find_first_not_of(L" \t", line + 1) == std::wstring::npos;
        if (!always_new_line && (empty_line || hooks_.complete(text))) {
            leave();
            return CC_NEWLINE;
        }
        // In a paste that comes as keys the text brings its own blanks.
        pollfd more{STDIN_FILENO, POLLIN, 0};
        const bool typed = ::poll(&more, 1, 0) == 0;
        const auto depth = static_cast<size_t>(std::clamp(hooks_.depth(narrow(now.text.substr(0, now.cursor))), 0, 16));
        insert(L"\n" + std::wstring(typed ? kIndent * depth : 0, L' '));
        return CC_REFRESH;
    }

    unsigned char brace() {
        const Buffer now = buffer();
        const size_t line = now.cursor == 0 ? std::wstring::npos : now.text.rfind(L'\n', now.cursor - 1);
        if (line != std::wstring::npos) {
            const size_t blanks = now.cursor - line - 1;
            const auto depth = static_cast<size_t>(std::clamp(hooks_.depth(narrow(now.text.substr(0, now.cursor))) - 1, 0, 16));
            if (now.text.find_first_not_of(L' ', line + 1) >= now.cursor && blanks > kIndent * depth)
                el_wdeletestr(edit_, static_cast<int>(blanks - kIndent * depth));
        }
        insert(L"}");
        return CC_REFRESH;
    }

    unsigned char cancel() {
        cancelled_ = true;
        leave();
        return CC_NEWLINE;
    }

    unsigned char vertical(int direction) {
        const Buffer now = buffer();
        const size_t begin = now.cursor == 0 ? 0 : now.text.rfind(L'\n', now.cursor - 1) + 1;  // npos + 1 is 0
        const size_t column = now.cursor - begin;
        if (direction < 0 && begin > 0) {
            const size_t above = begin == 1 ? 0 : now.text.rfind(L'\n', begin - 2) + 1;
            el_cursor(edit_, static_cast<int>(std::min(above + column, begin - 1)) - static_cast<int>(now.cursor));
            return CC_CURSOR;
        }
        if (const size_t end = now.text.find(L'\n', now.cursor); direction > 0 && end != std::wstring::npos) {
            const size_t last = std::min(now.text.find(L'\n', end + 1), now.text.size());
            el_cursor(edit_, static_cast<int>(std::min(end + 1 + column, last)) - static_cast<int>(now.cursor));
            return CC_CURSOR;
        }
        if (direction < 0 ? position_ == 0 : position_ >= entries_.size()) return CC_REFRESH_BEEP;
        if (position_ == entries_.size()) draft_ = now.text;
        position_ = direction < 0 ? position_ - 1 : position_ + 1;
        const std::wstring& text = position_ == entries_.size() ? draft_ : entries_[position_];
        replace(text, text.size());
        return CC_REFRESH;
    }

    unsigned char paste() {
        std::string bytes;
        constexpr std::string_view kEnd = "\x1b[201~";
        while (!bytes.ends_with(kEnd)) {
            char c = 0;
            pollfd more{STDIN_FILENO, POLLIN, 0};
            if (::poll(&more, 1, 1000) <= 0 || ::read(STDIN_FILENO, &c, 1) != 1) break;
            bytes += c;
        }
        if (bytes.ends_with(kEnd)) bytes.resize(bytes.size() - kEnd.size());
        std::wstring text;
        for (const wchar_t c : widen(bytes)) {
            const bool after_return = !text.empty() && last_ == L'\r';
            last_ = c;
            if (c == L'\n' && after_return) continue;
            if (c == L'\r' || c == L'\n')
                text += L'\n';
            else if (c == L'\t')
                text += L"    ";
            else if (c >= 0x20 && c != 0x7F)
                text += c;
        }
        last_ = 0;
        while (text.ends_with(L'\n')) text.pop_back();
        insert(text);
        return CC_REFRESH;
    }

    unsigned char complete() {
        const Buffer now = buffer();
        const size_t line = now.cursor == 0 ? std::wstring::npos : now.text.rfind(L'\n', now.cursor - 1);
        const size_t from = line == std::wstring::npos ? 0 : line + 1;
        if (from > 0 && now.text.find_first_not_of(L' ', from) >= now.cursor) {
            insert(std::wstring(kIndent, L' '));  // at the start of a later line Tab indents
            return CC_REFRESH;
        }
        const std::string before = narrow(now.text.substr(0, now.cursor)), text = narrow(now.text);
        const Completions found = hooks_.completions(text, before.size());
        if (found.words.empty()) return CC_REFRESH_BEEP;
        std::string common = found.words.front();
        for (const std::string& word : found.words) {
            size_t same = 0;
            while (same < std::min(common.size(), word.size()) && common[same] == word[same]) ++same;
            common.resize(same);
        }
        const size_t typed = before.size() - found.begin;
        if (common.size() > typed || (found.words.size() == 1 && common != before.substr(found.begin))) {
            const std::wstring old = widen(before.substr(found.begin));
            el_wdeletestr(edit_, static_cast<int>(old.size()));
            insert(widen(common));
            if (found.words.size() == 1) return CC_REFRESH;
            return CC_REFRESH;
        }
        if (found.words.size() == 1) return CC_REFRESH;
        list(found.words);
        return CC_REDISPLAY;
    }

    void list(const std::vector<std::string>& words) {
        erase_hint();
        to_last_row();
        size_t widest = 0;
        for (const std::string& word : words) widest = std::max(widest, word.size() + 2);
        const size_t across = std::max<size_t>(1, static_cast<size_t>(width_) / widest);
        constexpr size_t kMost = 200;
        std::string out = "\r\n";
        for (size_t i = 0; i < std::min(words.size(), kMost); ++i) {
            out += words[i];
            const bool last = i + 1 == words.size() || i + 1 == kMost || (i + 1) % across == 0;
            out += last ? "\r\n" : std::string(widest - words[i].size(), ' ');
        }
        if (words.size() > kMost) out += "and " + std::to_string(words.size() - kMost) + " more\r\n";
        put(out);
    }

    // ---- the screen ----

    void put(const std::string& text) {
        std::fflush(stdout);
        for (size_t at = 0; at < text.size();) {
            const ssize_t written = ::write(STDOUT_FILENO, text.data() + at, text.size() - at);
            if (written <= 0) break;
            at += static_cast<size_t>(written);
        }
    }

    void measure() {
        winsize size{};
        if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
            width_ = size.ws_col;
            height_ = size.ws_row > 0 ? size.ws_row : 24;
        }
    }

    /// Escape codes from the cursor at `from` to `to`.
    static std::string move(Place from, Place to) {
        std::string out = "\r";
        if (to.row < from.row) out += "\x1b[" + std::to_string(from.row - to.row) + "A";
        if (to.row > from.row) out += "\x1b[" + std::to_string(to.row - from.row) + "B";
        if (to.col > 0) out += "\x1b[" + std::to_string(to.col) + "C";
        return out;
    }

    void paint(bool with_hint) {
        const Buffer now = buffer();
        const std::vector<Place> places = lay_out(now.text, width_);
        const Place end = places.back(), cursor = places[now.cursor];
        if (end.row + 1 >= height_ || width_ < 12) return;  // scrolled: libedit alone knows what is where
        const std::string text = narrow(now.text);
        const std::vector<uint8_t> colours = colour_ ? hooks_.colours(text) : std::vector<uint8_t>();
        std::string out =
            "\x1b"
            "7" +
            move(cursor, {0, 0}) + (colour_ ? "\x1b[1;36m" : "") + narrow(kPrompt) + "\x1b[0m";
        size_t byte = 0;
        int style = 0;
        Place at{0, static_cast<int>(kPrompt.size())};
        for (size_t i = 0; i < now.text.size(); ++i) {
            const std::string letter = narrow(std::wstring_view(&now.text[i], 1));
            const int wanted = byte < colours.size() ? colours[byte] : 0;
            byte += letter.size();
            if (places[i].row != at.row) out += move(at, places[i]);
            at = places[i];
            if (now.text[i] == L'\n' || now.text[i] == L'\t') continue;
            if (wanted != style)
                out += "\x1b[0" +
                       (hooks_.palette[static_cast<size_t>(wanted)].empty() ? "" : ";" + hooks_.palette[static_cast<size_t>(wanted)]) + "m";
            style = wanted;
            out += letter;
            at.col += columns_of(now.text[i]);
        }
        out += "\x1b[0m";
        if (at.row != end.row || at.col != end.col) out += move(at, end);
        std::string hint =
            with_hint && now.cursor <= now.text.size() ? hooks_.hint(text, narrow(now.text.substr(0, now.cursor)).size()) : "";
        const int room = width_ - end.col - 2;
        if (static_cast<int>(hint.size()) > room) hint = room > 8 ? hint.substr(0, static_cast<size_t>(room) - 3) + "..." : "";
        if (end.col < width_) out += (hint.empty() ? "" : "\x1b[2m " + hint + "\x1b[0m") + "\x1b[K";
        put(out +
            "\x1b"
            "8");
    }
    void erase_hint() { paint(false); }

    /// The cursor to the last row of the text, physically.
    void to_last_row() {
        const Buffer now = buffer();
        const std::vector<Place> places = lay_out(now.text, width_);
        const int down = places.back().row - places[now.cursor].row;
        if (down > 0) put("\x1b[" + std::to_string(down) + "B");
    }
    /// What follows goes below the text.
    void leave() {
        erase_hint();
        to_last_row();
        put("\r\n");
    }
    /// The prompt and all text away, the cursor where the prompt begins.
    void clear_input() {
        const Buffer now = buffer();
        const int up = lay_out(now.text, width_)[now.cursor].row;
        put("\r" + (up > 0 ? "\x1b[" + std::to_string(up) + "A" : std::string()) + "\x1b[J");
    }

    void resize_if_needed(bool redraw) {
        const int before = width_;
        measure();
        if (!redraw) {
            el_resize(edit_);
            return;
        }
        // A terminal that folds lines anew has moved them; one that does not has cut them. Either way the rows above are counted in the new width.
        const int narrower = std::min(before, width_);
        const Buffer now = buffer();
        const int up = std::min(lay_out(now.text, narrower)[now.cursor].row, height_ - 1);
        put("\r" + (up > 0 ? "\x1b[" + std::to_string(up) + "A" : std::string()) + "\x1b[J");
        el_resize(edit_);
        el_wset(edit_, EL_REFRESH);
        std::fflush(stdout);
    }

    // ---- waiting for a key ----

    static int get_char(EditLine* edit, wchar_t* out) { return self(edit).wait_char(out); }

    /// Return and line feed as they come: else a pasted CR LF is two line ends. libedit sets its own modes anew for each line.
    void keep_returns() {
        if (keeps_returns_) return;
        keeps_returns_ = true;
        termios mode{};
        if (tcgetattr(STDIN_FILENO, &mode) != 0 || !(mode.c_iflag & (ICRNL | INLCR))) return;
        mode.c_iflag &= ~static_cast<tcflag_t>(ICRNL | INLCR);
        tcsetattr(STDIN_FILENO, TCSADRAIN, &mode);
    }

    int wait_char(wchar_t* out) {
        keep_returns();
        bool fresh = true;
        while (true) {
            if (fresh) paint(true);
            fresh = false;
            pollfd fds[3] = {{STDIN_FILENO, POLLIN, 0}, {signals_, POLLIN, 0}, {watched_, POLLIN, 0}};
            if (::poll(fds, watched_ >= 0 ? 3 : 2, -1) < 0 && errno != EINTR) return -1;
            // A signal may have come between the wait and now: it is older than the keys that are there.
            if (const char signal = Signals::next()) {
                switch (signal) {
                    case 'i': *out = 3; return 1;
                    case 't': return 0;
                    case 'w': resize_if_needed(true); break;
                    case 'z': suspend(); break;
                    default: break;
                }
                fresh = true;
                continue;
            }
            if (watched_ >= 0 && fds[2].revents) {
                print_above();
                fresh = true;
                continue;
            }
            if (!fds[0].revents) continue;
            std::string bytes;
            size_t wanted = 1;
            while (bytes.size() < wanted) {
                char c = 0;
                const ssize_t got = ::read(STDIN_FILENO, &c, 1);
                if (got < 0 && errno == EINTR) continue;
                if (got <= 0) return 0;
                bytes += c;
                const auto lead = static_cast<unsigned char>(bytes[0]);
                wanted = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
            }
            *out = widen(bytes)[0];
            // A Ctrl-D that was typed while the terminal still edited lines itself arrives as this.
            if (*out == 0) *out = 4;
            return 1;
        }
    }

    void print_above() {
        std::string text;
        const bool more = ready_(&text);
        if (!more) watched_ = -1;
        if (text.empty()) return;
        clear_input();
        std::string raw;
        for (const char c : text) raw += c == '\n' ? std::string("\r\n") : std::string(1, c);
        put(raw);
        el_wset(edit_, EL_REFRESH);
        std::fflush(stdout);
    }

    void suspend() {
        clear_input();
        put("\x1b[?2004l");
        el_wset(edit_, EL_PREP_TERM, 0);
        std::raise(SIGSTOP);
        el_wset(edit_, EL_PREP_TERM, 1);
        keeps_returns_ = false;
        keep_returns();
        put("\x1b[?2004h");
        measure();
        el_resize(edit_);
        el_wset(edit_, EL_REFRESH);
        std::fflush(stdout);
    }

    EditorHooks hooks_;
    std::string history_path_;
    bool colour_;
    EditLine* edit_ = nullptr;
    HistoryW* history_ = nullptr;
    std::vector<std::wstring> entries_;  // the history, oldest first
    size_t position_ = 0;                // in it; its size: the draft
    std::wstring draft_;
    bool cancelled_ = false, keeps_returns_ = false;
    wchar_t last_ = 0;
    int signals_ = -1, watched_ = -1;
    std::function<bool(std::string*)> ready_;
    int width_ = 80, height_ = 24;
};

class PlainReader : public LineEditor {
public:
    explicit PlainReader(EditorHooks hooks) : hooks_(std::move(hooks)) { signals_ = Signals::take(); }

    Read read(std::string* out) override {
        out->clear();
        while (true) {
            std::fputs(out->empty() ? "flex> " : "  ... ", stdout);
            std::fflush(stdout);
            std::string line;
            const Read status = read_line(&line);
            if (status != Read::Line) {
                std::fputs("\n", stdout);
                return status == Read::End && !out->empty() ? Read::Line : status;
            }
            const bool done = (!out->empty() && line.empty()) || hooks_.complete(*out + line);
            *out += line;
            if (done) return Read::Line;
            *out += "\n";
        }
    }
    void remember(const std::string&) override {}
    void watch(int, std::function<bool(std::string*)>) override {}

private:
    Read read_line(std::string* line) {
        while (true) {
            pollfd fds[2] = {{STDIN_FILENO, POLLIN, 0}, {signals_, POLLIN, 0}};
            if (pending_.find('\n') == std::string::npos && ::poll(fds, 2, -1) < 0 && errno != EINTR) return Read::End;
            if (const char signal = Signals::next()) {
                if (signal == 't') return Read::End;
                if (signal == 'i') {
                    pending_.clear();
                    return Read::Cancelled;
                }
                if (signal == 'z') std::raise(SIGSTOP);
                continue;
            }
            if (const size_t end = pending_.find('\n'); end != std::string::npos) {
                *line = pending_.substr(0, end);
                pending_.erase(0, end + 1);
                return Read::Line;
            }
            char buffer[4096];
            const ssize_t got = ::read(STDIN_FILENO, buffer, sizeof buffer);
            if (got < 0 && errno == EINTR) continue;
            if (got <= 0) return Read::End;
            pending_.append(buffer, static_cast<size_t>(got));
        }
    }

    EditorHooks hooks_;
    std::string pending_;
    int signals_ = -1;
};

}  // namespace

bool capable_terminal() {
    const char* name = std::getenv("TERM");
    return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && name && *name && std::strcmp(name, "dumb") != 0 &&
           std::strcmp(name, "unknown") != 0;
}

std::unique_ptr<LineEditor> make_line_editor(EditorHooks hooks, const std::string& history, bool colour) {
    return std::make_unique<EditLineEditor>(std::move(hooks), history, colour);
}

std::unique_ptr<LineEditor> make_plain_reader(EditorHooks hooks) {
    return std::make_unique<PlainReader>(std::move(hooks));
}

std::string history_file() {
    std::filesystem::path folder;
    if (const char* state = std::getenv("XDG_STATE_HOME"); state && *state)
        folder = state;
    else if (const char* home = std::getenv("HOME"); home && *home)
        folder = std::filesystem::path(home) / ".local" / "state";
    else
        return {};
    folder /= "flexc";
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    return error ? std::string() : (folder / "history").string();
}

}  // namespace flexc::repl
