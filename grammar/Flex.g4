// The .flex language. No embedded code: frontend/parse.cpp drives the generated parser declaration by declaration (so
// that an error in one leaves the others readable), and frontend/build_ast.cpp turns parse trees into the AST.
//
// Two properties hold the parser to linear time and bounded stack, and should be kept by changes:
//   - every decision looks at most two tokens ahead, nearly all at one;
//   - every recursive cycle passes through one of `(` `[` `{` `if`, whose nesting is bounded before parsing.
//     Chains of operators, of prefixes and of suffixes are loops; precedence is the order of the rules.
//
// The lexer reads bytes, not code points; characters above 0x7F occur in comments and strings only, and their first and
// further bytes arrive as U+0001 and U+0002 (frontend/lex.cpp). It accepts any input: what does not belong to the language
// becomes one of the tokens at the end, so that the parser can say what is wrong.
grammar Flex;

// ---- declarations ----

file : declaration* EOF ;

declaration
    : importDecl
    | constDecl
    | fnDecl
    | maskDecl
    | scoreDecl
    | attentionDecl
    ;

importDecl    : IMPORT (name | STRING) SEMI ;
constDecl     : CONST name COLON type ASSIGN body ;
fnDecl        : FN name parameters ARROW type ASSIGN body ;
maskDecl      : MASK name parameters ASSIGN body ;
scoreDecl     : SCORE name parameters ASSIGN body ;
attentionDecl : ATTENTION name parameters? LBRACE item* RBRACE ;

parameters : LPAREN (parameter (COMMA parameter)* COMMA?)? RPAREN ;
parameter  : CONST? declaredName COLON GRAD? type (ASSIGN expr)? ;

type     : typeName (LBRACKET expr (COMMA expr)* RBRACKET)? ;
typeName : name | MASK | SCORE ;

// `;` ends a body, and may be left out after a block.
body  : block SEMI? | expr SEMI ;
value : block | expr ;
block : LBRACE let* value RBRACE ;
let   : LET name ASSIGN body ;

// ---- clauses of an attention ----

item
    : let
    | SCALE ASSIGN body
    | SCORE ASSIGN body
    | MASK ASSIGN body
    | NORMALIZE ASSIGN? normalization SEMI
    | SINK ASSIGN body
    | BLOCKS ASSIGN body
    | QUERY ASSIGN body
    | KEY ASSIGN body
    | OUTPUT ASSIGN body
    | EMIT name ASSIGN emission SEMI
    ;

normalization : SOFTMAX | SIGMOID | NONE ;
emission      : (MEAN | COLUMN_SUM) LPAREN value RPAREN ;

// ---- expressions, loosest first ----

expr           : conditional (PIPE postfix)* ;
conditional    : IF expr THEN branch ELSE branch | disjunction ;
branch         : block | conditional ;
disjunction    : conjunction (OR conjunction)* ;
conjunction    : negation (AND negation)* ;
negation       : NOT* comparison ;
comparison     : bitOr ((EQ | NE | LT | LE | GT | GE) bitOr)* ;
bitOr          : bitXor (BAR bitXor)* ;
bitXor         : bitAnd (CARET bitAnd)* ;
bitAnd         : shift (AMP shift)* ;
shift          : sum ((SHL | SHR) sum)* ;
sum            : product ((PLUS | MINUS) product)* ;
product        : unary ((STAR | SLASH | FLOORDIV | PERCENT) unary)* ;
unary          : (MINUS | TILDE)* postfix ;
postfix        : primary suffix* ;

suffix
    : LPAREN arguments? RPAREN
    | LPAREN name IN expr RANGE expr COLON value RPAREN     // sum (j in lo..n: e)
    | LBRACKET index (COMMA index)* RBRACKET
    ;

arguments : argument (COMMA argument)* COMMA? ;
argument  : (name | SCORE) ASSIGN value | value ;
index     : COLON | expr ;

primary
    : INT DOT?          // `1.` is a float; the lexer cannot take the dot because of `1..n`
    | FLOAT
    | TRUE
    | FALSE
    | name
    | SCORE
    | LPAREN value RPAREN
    ;

// Words that mean something only at the start of a clause are names everywhere else.
name
    : NAME | SCALE | NORMALIZE | SINK | BLOCKS | QUERY | KEY | OUTPUT | EMIT
    | MEAN | COLUMN_SUM | SOFTMAX | SIGMOID | NONE
    ;
// Parsed wider than allowed, for a better message.
declaredName : name | SCORE | MASK ;

// ---- words ----

IMPORT : 'import' ;       CONST : 'const' ;         FN : 'fn' ;             MASK : 'mask' ;
SCORE : 'score' ;         ATTENTION : 'attention' ; GRAD : 'grad' ;         LET : 'let' ;
IF : 'if' ;               THEN : 'then' ;           ELSE : 'else' ;         IN : 'in' ;
AND : 'and' ;             OR : 'or' ;               NOT : 'not' ;
TRUE : 'true' ;           FALSE : 'false' ;

SCALE : 'scale' ;         NORMALIZE : 'normalize' ; SINK : 'sink' ;         BLOCKS : 'blocks' ;
QUERY : 'query' ;         KEY : 'key' ;             OUTPUT : 'output' ;     EMIT : 'emit' ;
MEAN : 'mean' ;           COLUMN_SUM : 'column_sum' ;
SOFTMAX : 'softmax' ;     SIGMOID : 'sigmoid' ;     NONE : 'none' ;

NAME : [A-Za-z_] [A-Za-z0-9_]* ;

// ---- literals ----

INT
    : DIGITS
    | '0' [xX] HEX ('_'? HEX)*
    ;
FLOAT
    : DIGITS '.' DIGITS EXPONENT?
    | DIGITS '.'? EXPONENT
    | '.' DIGITS EXPONENT?
    ;
// `1.0f`, `0b1`, `12abc`, `1_`: after INT and FLOAT, which win at equal length.
BAD_NUMBER
    : [0-9] [0-9_]* ('.' [0-9_]*)? ([eE] [+\-]? [0-9_]*)? [A-Za-z_] [A-Za-z0-9_]*
    | '.' [0-9] [0-9_]* ([eE] [+\-]? [0-9_]*)? [A-Za-z_] [A-Za-z0-9_]*
    ;
STRING              : '"' ~["\r\n]* '"' ;
UNTERMINATED_STRING : '"' ~["\r\n]* ;

fragment DIGITS   : [0-9] ('_'? [0-9])* ;
fragment EXPONENT : [eE] [+\-]? DIGITS ;
fragment HEX      : [0-9a-fA-F] ;

// ---- signs ----

SEMI : ';' ;      COMMA : ',' ;     COLON : ':' ;     ASSIGN : '=' ;    ARROW : '->' ;
LPAREN : '(' ;    RPAREN : ')' ;    LBRACKET : '[' ;  RBRACKET : ']' ;  LBRACE : '{' ;    RBRACE : '}' ;
PIPE : '|>' ;     RANGE : '..' ;    DOT : '.' ;
EQ : '==' ;       NE : '!=' ;       LT : '<' ;        LE : '<=' ;       GT : '>' ;        GE : '>=' ;
BAR : '|' ;       CARET : '^' ;     AMP : '&' ;       SHL : '<<' ;      SHR : '>>' ;
PLUS : '+' ;      MINUS : '-' ;     STAR : '*' ;      SLASH : '/' ;     FLOORDIV : '//' ; PERCENT : '%' ;
TILDE : '~' ;

// Operators of other languages. None of them is a legal sequence of the signs above.
FOREIGN
    : '&&' | '||' | '!' | '?' | '**' | '%%' | '===' | '!==' | '=>' | ':=' | '<>' | '>>>' | '::'
    | '+=' | '-=' | '*=' | '/=' | '%=' | '&=' | '|=' | '^=' | '@'
    ;
C_COMMENT     : '/*' ;
SINGLE_QUOTED : '\'' ~['\r\n]* '\''? ;

COMMENT : '#' ~[\n]* -> skip ;
BLANK   : [ \t\r\n\u000C]+ -> skip ;
UNKNOWN : '\u0001' '\u0002'* | . ;
