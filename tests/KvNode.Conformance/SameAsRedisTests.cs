using System.Text;
using KvNode.Testing;

namespace KvNode.Conformance;

/// <summary>The same script goes to the node and to a live redis-server; the replies must be equal to the byte.</summary>
public sealed class SameAsRedisTests(NodeFixture fixture) : IClassFixture<NodeFixture>
{
    /// <summary>Each string: commands separated by <c>;</c>, words by blanks; <c>''</c> is the empty string.</summary>
    public static TheoryData<string> Scripts { get; } =
    [
        "SET a 1; GET a; get a; GeT a; GET nothing; SET a ''; GET a; SET '' empty; GET ''",
        "SET a 1; SET b 2; MGET a b c a; MGET nothing; MSET a 1 b 2 a 3; MGET a b; MSET a 1",
        "SET a 1; DEL a a; DEL a; MSET a 1 b 2 c 3; DEL a x b; EXISTS a b c; EXISTS c c c; EXISTS x",
        "DBSIZE; MSET a 1 b 2 c 3; DBSIZE; SET a 9; DBSIZE; DEL a; DBSIZE; FLUSHDB; DBSIZE; SET a 1; FLUSHALL; DBSIZE",
        "PING; PING hello; PING ''; ECHO hi; ECHO ''; SELECT 0; SELECT 16; SELECT -1; SELECT x; SELECT 1.5",
        "SET a hello; TYPE a; TYPE b; STRLEN a; STRLEN b; SET a ''; STRLEN a; TYPE a",
        "GET; GET a b; SET; SET a; MSET; MSET a; MSET a 1 b; MGET; DEL; EXISTS; KEYS; DBSIZE x; ECHO; ECHO a b",
        "PING a b; TYPE; TYPE a b; STRLEN; STRLEN a b; SELECT; SELECT 0 1; HELLO x; COMMAND COUNT x; get; sEt a",
        "FLUSHDB SYNC; FLUSHDB ASYNC; FLUSHDB x; FLUSHALL SYNC; FLUSHALL async; FLUSHALL x; FLUSHDB SYNC SYNC",
        "foo; FOO; foo a; foo a b c; ''; GETT x; foo averylongargument another",
        "HELLO 4; HELLO 1; HELLO abc; HELLO 3 FOO; HELLO 2 SETNAME; GET a",
        "CLIENT GETNAME; CLIENT SETNAME worker; CLIENT GETNAME; CLIENT SETNAME ''; CLIENT GETNAME",
        "CLIENT SETNAME; CLIENT SETNAME a b; CLIENT; CLIENT FOO; CLIENT GETNAME x; CLIENT ID x",
        "CLIENT NO-EVICT ON; CLIENT NO-EVICT OFF; CLIENT NO-EVICT x; CLIENT NO-EVICT; client no-evict on",
        "CONFIG; CONFIG GET; CONFIG FOO; CONFIG GET nosuchsetting; CONFIG GET nosuch*",
        "COMMAND GETKEYS SET k v; COMMAND GETKEYS MSET a 1 b 2; COMMAND GETKEYS MGET a b c; COMMAND GETKEYS DEL a b",
        "COMMAND GETKEYS PING; COMMAND GETKEYS NOSUCH a; COMMAND GETKEYS; COMMAND GETKEYS GET; COMMAND INFO nosuch",
        "COMMAND FOO; COMMAND DOCS nosuch; COMMAND LIST FILTERBY FOO x; COMMAND LIST x; SHUTDOWN FOO; SHUTDOWN a b c",
        "KEYS nothing*; SET key1 1; KEYS key1; KEYS key[12]; KEYS ke?1; KEYS k*1; KEYS [^k]*; KEYS \\key1; KEYS key; KEYS ''",
        "QUIT; PING",
        "PING; SET a 1; GET a; QUIT",
    ];

    /// <summary>Bytes as they are on the wire; what is after a protocol error must not be answered.</summary>
    public static TheoryData<string> RawInputs { get; } =
    [
        "PING\r\n", "ping\n", "  PING  \r\n", "\r\n\r\nPING\r\n", "SET a \"hello world\"\r\nGET a\r\n",
        "SET a 'it''s'\r\nPING\r\n", "SET a \"\\x41\\n\\\"\"\r\nGET a\r\n", "SET a 'x\\'y'\r\nGET a\r\n",
        "SET a \"unbalanced\r\nPING\r\n", "SET a \"x\"y\r\nPING\r\n", "GET\r\nPING\r\n", "foo bar\r\nPING\r\n",
        "*0\r\nPING\r\n", "*-1\r\nPING\r\n", "*-5\r\n*1\r\n$4\r\nPING\r\n", "*abc\r\nPING\r\n", "*\r\nPING\r\n",
        "*1 \r\nPING\r\n", "*99999999999999999999\r\nPING\r\n", "*2147483648\r\nPING\r\n",
        "*1\r\nPING\r\n", "*1\r\n:4\r\nPING\r\n", "*1\r\n$abc\r\nPING\r\n", "*1\r\n$-1\r\nPING\r\n",
        "*1\r\n$-2\r\nPING\r\n", "*1\r\n$\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$536870913\r\n", "*1\r\n$99999999999999999999\r\n",
        "*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n", "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
        "*1\r\n$0\r\n\r\nPING\r\n", "*3\r\n$3\r\nSET\r\n$2\r\n\r\n\r\n$2\r\n\0\xff\r\n*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n",
        "+OK\r\nPING\r\n", ":1\r\nPING\r\n", "$4\r\nPING\r\n",
    ];

    [Theory]
    [MemberData(nameof(Scripts))]
    public void RepliesToScriptEqualRedisToTheByte(string script)
    {
        using var flush = fixture.ConnectEmptied();
        using var redisFlush = fixture.Redis.Connect();
        Assert.Equal("+OK", redisFlush.Text("FLUSHALL"));

        Assert.Equal(RunScript(fixture.Redis.Port, script), RunScript(fixture.Node.Port, script));
    }

    [Theory]
    [MemberData(nameof(RawInputs))]
    public void RepliesToRawBytesEqualRedisToTheByte(string input)
    {
        var bytes = Encoding.Latin1.GetBytes(input);
        Assert.Equal(SendAll(fixture.Redis.Port, bytes), SendAll(fixture.Node.Port, bytes));
    }

    [Theory]
    [InlineData('a')]
    [InlineData('*')]
    [InlineData('$')]
    public void LineLongerThan64KiBWithoutEndIsRefusedAsByRedis(char kind)
    {
        var line = kind switch
        {
            'a' => new string('a', 70_000),
            '*' => "*" + new string('1', 70_000),
            _ => "*1\r\n$" + new string('1', 70_000),
        };
        var bytes = Encoding.Latin1.GetBytes(line);
        Assert.Equal(SendAll(fixture.Redis.Port, bytes, quit: false), SendAll(fixture.Node.Port, bytes, quit: false));
    }

    /// <summary>Redis skips the two bytes after a bulk unseen; a node that did so would run bytes of a value as commands.</summary>
    [Fact]
    public void BulkThatDoesNotEndWhereItSaidIsRefused()
    {
        var replies = SendAll(fixture.Node.Port, "*1\r\n$4\r\nPINGPING\r\n"u8.ToArray());
        Assert.StartsWith("-ERR Protocol error: ", replies, StringComparison.Ordinal);
        Assert.DoesNotContain("PONG", replies, StringComparison.Ordinal);
    }

    [Fact]
    public void RepliesAfterHello3EqualRedisToTheByte()
    {
        const string Script = "GET nothing; MSET a 1 b 2; MGET a x b; KEYS nothing; CONFIG GET nosuch*; EXISTS a; DEL a; " +
            "COMMAND INFO nosuch; COMMAND DOCS nosuch; CLIENT GETNAME; TYPE b; PING; ECHO x; GET; DBSIZE; HELLO 9";
        using var flush = fixture.ConnectEmptied();
        using var redisFlush = fixture.Redis.Connect();
        _ = redisFlush.Call("FLUSHALL");

        Assert.Equal(RunScript(fixture.Redis.Port, Script, hello: true), RunScript(fixture.Node.Port, Script, hello: true));
    }

    [Fact]
    public void RandomScriptsOfSharedCommandsAnswerAsRedisDoes()
    {
        Seeds.Run(nameof(RandomScriptsOfSharedCommandsAnswerAsRedisDoes), random =>
        {
            using var node = fixture.ConnectEmptied();
            using var redis = fixture.Redis.Connect();
            _ = redis.Call("FLUSHALL");
            for (var round = 0; round < 300; round++)
            {
                var commands = Enumerable.Range(0, random.Next(1, 40)).Select(_ => RandomCommand(random)).ToArray();
                foreach (var command in commands)
                {
                    node.Send(command);
                    redis.Send(command);
                }

                node.Flush();
                redis.Flush();
                foreach (var command in commands)
                {
                    var expected = Sorted(command, redis.Read());
                    var found = Sorted(command, node.Read());
                    Assert.True(expected == found, $"{Print(command)}\n redis {expected}\n node  {found}");
                }
            }
        });
    }

    [Theory]
    [InlineData("GET")]
    [InlineData("MSET")]
    [InlineData("MGET")]
    [InlineData("DEL")]
    [InlineData("EXISTS")]
    [InlineData("DBSIZE")]
    [InlineData("FLUSHDB")]
    [InlineData("FLUSHALL")]
    [InlineData("PING")]
    [InlineData("ECHO")]
    [InlineData("QUIT")]
    [InlineData("SHUTDOWN")]
    [InlineData("SELECT")]
    [InlineData("TYPE")]
    [InlineData("STRLEN")]
    [InlineData("COMMAND")]
    [InlineData("INFO")]
    [InlineData("CONFIG")]
    [InlineData("HELLO")]
    [InlineData("CLIENT")]
    public void CommandInfoOfSharedCommandHasRedissArityAndKeyPositions(string name)
    {
        using var node = fixture.Node.Connect();
        using var redis = fixture.Redis.Connect();
        Assert.Equal(Positions(redis.Call("COMMAND", "INFO", name)), Positions(node.Call("COMMAND", "INFO", name)));
    }

    private static string Positions(RespValue info)
    {
        var row = info[0];
        return $"{row[0].Text} arity {row[1].Integer} keys {row[3].Integer} {row[4].Integer} {row[5].Integer}";
    }

    private static string RunScript(int port, string script, bool hello = false)
    {
        using var client = new RespClient(port);
        if (hello)
        {
            Assert.Equal('%', client.Call("HELLO", "3").Type);
        }

        var text = new StringBuilder();
        foreach (var command in script.Split(';', StringSplitOptions.TrimEntries))
        {
            client.Send([.. command.Split(' ').Select(static word => (RespArgument)(word == "''" ? "" : word))]);
        }

        client.Flush();
        client.Send("QUIT");
        try
        {
            client.Flush();
        }
        catch (EndOfStreamException)
        {
            // The script ended with QUIT itself.
        }

        var replies = client.ReadToEnd();
        return text.Append(Encoding.Latin1.GetString(replies)).ToString();
    }

    /// <summary>Sends the bytes and a QUIT on the same connection; everything answered until it closes.</summary>
    private static string SendAll(int port, byte[] bytes, bool quit = true)
    {
        using var client = new RespClient(port);
        client.SendRaw(bytes);
        client.SendRaw(quit ? "\r\nQUIT\r\n"u8 : ""u8);
        try
        {
            client.Flush();
            client.Socket.Shutdown(System.Net.Sockets.SocketShutdown.Send);
        }
        catch (Exception failure) when (failure is IOException or System.Net.Sockets.SocketException)
        {
            // Closed after a protocol error: what was answered before is still to be read.
        }

        return Encoding.Latin1.GetString(client.ReadToEnd());
    }

    private static RespArgument[] RandomCommand(Random random)
    {
        string Key() => $"k{random.Next(12)}";
        string Value() => new((char)('a' + random.Next(26)), random.Next(40));
        return random.Next(14) switch
        {
            0 or 1 or 2 => ["SET", Key(), Value()],
            3 or 4 => ["GET", Key()],
            5 => ["MGET", Key(), Key(), Key()],
            6 => ["MSET", Key(), Value(), Key(), Value()],
            7 => ["DEL", Key(), Key()],
            8 => ["EXISTS", Key(), Key()],
            9 => ["STRLEN", Key()],
            10 => ["TYPE", Key()],
            11 => ["DBSIZE"],
            12 => ["KEYS", random.Next(4) switch { 0 => "*", 1 => "k1*", 2 => "k[0-5]", _ => Key() }],
            _ => random.Next(10) == 0 ? ["FLUSHDB"] : ["GET", Key(), "extra"],
        };
    }

    /// <summary>Redis answers KEYS in no order, so both are compared sorted.</summary>
    private static string Sorted(RespArgument[] command, RespValue reply) =>
        command[0].Span.SequenceEqual("KEYS"u8)
            ? string.Join(' ', reply.Texts().Order(StringComparer.Ordinal))
            : reply.ToString();

    private static string Print(RespArgument[] command) =>
        string.Join(' ', command.Select(static word => Encoding.UTF8.GetString(word.Span)));
}
