;;; flex-mode.el --- Attention variants in .flex files  -*- lexical-binding: t -*-

;;; Commentary:
;; Colours and comments for .flex; `eglot' (built into Emacs 29) starts `flexc lsp' for the rest: M-x eglot in a .flex file.

;;; Code:

(defvar flex-mode-font-lock
  `(("##.*$" 0 font-lock-doc-face t)
    (,(regexp-opt '("import" "const" "fn" "attention" "let" "if" "then" "else" "in" "and" "or" "not" "grad"
                    "normalize" "emit" "scale" "sink" "blocks" "query" "key" "output" "mask" "score")
                  'symbols)
     . font-lock-keyword-face)
    (,(regexp-opt '("f32" "f16" "bf16" "i32" "i16" "i8" "u8" "bool") 'symbols) . font-lock-type-face)
    (,(regexp-opt '("true" "false" "inf" "pi" "B" "H" "HKV" "Q" "K" "D" "DV") 'symbols) . font-lock-constant-face)
    ("\\_<\\(?:fn\\|mask\\|score\\|attention\\)\\s-+\\([A-Za-z_][A-Za-z0-9_]*\\)" 1 font-lock-function-name-face t)))

;;;###autoload
(define-derived-mode flex-mode prog-mode "Flex"
  "Mode for attention variants."
  (setq-local comment-start "# " comment-start-skip "#+\\s-*" font-lock-defaults '(flex-mode-font-lock)
              indent-tabs-mode nil tab-width 4)
  (modify-syntax-entry ?# "<" flex-mode-syntax-table)
  (modify-syntax-entry ?\n ">" flex-mode-syntax-table)
  (modify-syntax-entry ?_ "_" flex-mode-syntax-table))

;;;###autoload
(add-to-list 'auto-mode-alist '("\\.flex\\'" . flex-mode))

(with-eval-after-load 'eglot
  (add-to-list 'eglot-server-programs '(flex-mode . ("flexc" "lsp"))))

(provide 'flex-mode)
;;; flex-mode.el ends here
