namespace KvNode.Server.Tests;

/// <summary>
/// Inputs and what must come of them. Except where marked, a redis-server 7.0.15 was sent the same bytes over a raw
/// socket and answered the same: the command's effect, silence, or the same error text and a closed connection.
/// </summary>
internal static class RespCorpus
{
    private const string Multibulk = "error: ERR Protocol error: invalid multibulk length";
    private const string Bulk = "error: ERR Protocol error: invalid bulk length";
    private const string Quotes = "error: ERR Protocol error: unbalanced quotes in request";
    private const string Ping = "[\"PING\"]";

    /// <summary>Input in Latin-1, then the events.</summary>
    public static readonly (string Input, string[] Events)[] Cases =
    [
        // Whole commands, alone and in a row.
        ("*1\r\n$4\r\nPING\r\n", [Ping]),
        ("*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", ["[\"ECHO\",\"\"]"]),
        ("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$12\r\n$3\r\nab\r\n*1\r\n\r\n", ["[\"SET\",\"k\",\"$3\\x0d\\x0aab\\x0d\\x0a*1\\x0d\\x0a\"]"]),
        ("*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\nPING\r\n*1\r\n$4\r\nPING\r\n", [Ping, Ping, Ping, Ping]),
        ("*2\r\n$3\r\nGET\r\n$3\r\n\0\xff\n\r\n", ["[\"GET\",\"\\x00\\xff\\x0a\"]"]),
        ("*10\r\n$4\r\nMGET\r\n$1\r\n1\r\n$1\r\n2\r\n$1\r\n3\r\n$1\r\n4\r\n$1\r\n5\r\n$1\r\n6\r\n$1\r\n7\r\n$1\r\n8\r\n$10\r\n1234567890\r\n",
            ["[\"MGET\",\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"1234567890\"]"]),

        // No command at all.
        ("*0\r\n", []),
        ("*-1\r\n", []),
        ("*-5\r\n*0\r\n\r\nPING\r\n", [Ping]),
        ("*0\r\n*1\r\n$4\r\nPING\r\n", [Ping]),
        ("\r\n", []),
        ("\n", []),
        ("\r\n\r\nPING\r\n", [Ping]),
        ("   \t \r\n", []),

        // Counts.
        ("*+1\r\n", [Multibulk]),
        ("*01\r\n", [Multibulk]),
        ("*00\r\n", [Multibulk]),
        ("*-0\r\n", [Multibulk]),
        ("*\r\n", [Multibulk]),
        ("*-\r\n", [Multibulk]),
        ("*x\r\n", [Multibulk]),
        ("*1x\r\n", [Multibulk]),
        ("* 1\r\n", [Multibulk]),
        ("*1 \r\n", [Multibulk]),
        ("*2147483648\r\n", [Multibulk]),
        ("*99999999999999999999\r\n", [Multibulk]),
        ("*-99999999999999999999\r\n", [Multibulk]),
        ("*-9223372036854775808\r\nPING\r\n", [Ping]),
        ("*1048576\r\n", []),
        ("*1048577\r\n", [Multibulk]), // Redis 7 has room for 2^31-1 arguments
        ("*1\n$4\nPING\n", []),

        // Lengths.
        ("*3\r\n$-1\r\n", [Bulk]),
        ("*3\r\n$-1", []),
        ("*1\r\n$+4\r\nPING\r\n", [Bulk]),
        ("*1\r\n$04\r\nPING\r\n", [Bulk]),
        ("*1\r\n$00\r\n\r\n", [Bulk]),
        ("*1\r\n$\r\n", [Bulk]),
        ("*1\r\n$4x\r\nPING\r\n", [Bulk]),
        ("*1\r\n$536870913\r\n", [Bulk]),
        ("*1\r\n$4294967300\r\n", [Bulk]),
        ("*1\r\n$99999999999999999999\r\n", [Bulk]),
        ("*1\r\nPING\r\n", ["error: ERR Protocol error: expected '$', got 'P'"]),
        ("*1\r\n:4\r\n", ["error: ERR Protocol error: expected '$', got ':'"]),
        ("*2\r\n$4\r\nECHO\r\n*1\r\n", ["error: ERR Protocol error: expected '$', got '*'"]),
        ("*1\r\n\r\n", ["error: ERR Protocol error: expected '$', got ' '"]),
        ("*1\r\n\n\r\n", ["error: ERR Protocol error: expected '$', got ' '"]),
        ("*1\r\n\xff\r\n", ["error: ERR Protocol error: expected '$', got '\\xff'"]),
        ("*1\r\nPING", []),
        ("PING\r\n*1\r\nx\r\nPING\r\n", [Ping, "error: ERR Protocol error: expected '$', got 'x'"]),

        // Line ends that are none. Redis skips two bytes unseen and would execute these.
        ("*1\r\n$4\r\nPINGxx", [Bulk]),
        ("*1\r\n$4\r\nPING\r\r", [Bulk]),
        ("*1\r\n$4\r\nPING\n\n", [Bulk]),
        ("*1\r\n$3\r\nPING\r\n", [Bulk]),
        ("*1\rx$4\r\nPING\r\n", [Multibulk]),
        ("*1\r\n$4\rxPING\r\n", [Bulk]),

        // Inline commands.
        ("PING\n", [Ping]),
        ("PING\r\n", [Ping]),
        ("  PING  \r\n", [Ping]),
        ("$4\r\nPING\r\n", ["[\"$4\"]", Ping]),
        ("ECHO \"a b\"\r\n", ["[\"ECHO\",\"a b\"]"]),
        ("ECHO \"\\x41\\n\\t\\b\\a\\r\\q\\\\\\\"\"\r\n", ["[\"ECHO\",\"A\\x0a\\x09\\x08\\x07\\x0dq\\x5c\\x22\"]"]),
        ("ECHO \"\\xfF\\x4\\xg0\"\r\n", ["[\"ECHO\",\"\\xffx4xg0\"]"]),
        ("ECHO 'it\\'s \\n'\r\n", ["[\"ECHO\",\"it's \\x5cn\"]"]),
        ("ECHO a\"b c\"\r\n", ["[\"ECHO\",\"ab c\"]"]),
        ("ECHO a\\nb\r\n", ["[\"ECHO\",\"a\\x5cnb\"]"]),
        ("ECHO \"\" ''\r\n", ["[\"ECHO\",\"\",\"\"]"]),
        ("\"\"\r\n", ["[\"\"]"]),
        ("ECHO\ta\r\n", ["[\"ECHO\",\"a\"]"]),
        ("ECHO a\tb\r\n", ["[\"ECHO\",\"a\",\"b\"]"]),
        ("ECHO a\rb\r\n", ["[\"ECHO\",\"a\",\"b\"]"]),
        ("ECHO a\r\r\n", ["[\"ECHO\",\"a\"]"]),
        ("ECHO a\vb\r\n", ["[\"ECHO\",\"a\\x0bb\"]"]),
        ("\vECHO a\r\n", ["[\"ECHO\",\"a\"]"]),
        ("ECHO \"a\"\v\r\n", ["[\"ECHO\",\"a\"]"]),
        ("ECHO \"a\"b\r\n", [Quotes]),
        ("ECHO 'a'b\r\n", [Quotes]),
        ("ECHO \"a\"\"b\"\r\n", [Quotes]),
        ("ECHO \"a\r\n", [Quotes]),
        ("ECHO 'a\r\n", [Quotes]),
        ("ECHO \"\\\r\n", [Quotes]),
        ("ECHO a\"b c\"d\r\n", [Quotes]),
        ("ECHO a\0b\r\n", ["[\"ECHO\",\"a\\x00b\"]"]), // Redis sees no line end behind a zero byte and waits
        ("PING\r\nECHO '\r\nPING\r\n", [Ping, Quotes]),
    ];

    /// <summary>All well-formed cases in one stream, and what must come of it.</summary>
    public static (string Input, string[] Events) Stream()
    {
        var good = Cases.Where(item => item.Input.EndsWith('\n') && item.Events.Length > 0
            && item.Events.All(line => line.StartsWith('['))).ToArray();
        return (string.Concat(good.Select(item => item.Input)), good.SelectMany(item => item.Events).ToArray());
    }
}
