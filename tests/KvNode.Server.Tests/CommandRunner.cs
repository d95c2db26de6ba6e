using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using KvNode.Server.Commands;
using KvNode.Server.Resp;

namespace KvNode.Server.Tests;

/// <summary>RESP by hand: bytes are written as Latin-1 text, one character per byte.</summary>
internal static class Wire
{
    public static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    public static string Text(ReadOnlySpan<byte> bytes) => Encoding.Latin1.GetString(bytes);

    /// <summary>The multibulk form of a command and where its arguments are.</summary>
    public static (byte[] Raw, ArgRange[] Ranges) Encode(params ReadOnlySpan<byte[]> args)
    {
        var raw = new List<byte>(Bytes($"*{args.Length}\r\n"));
        var ranges = new ArgRange[args.Length];
        for (var i = 0; i < args.Length; i++)
        {
            raw.AddRange(Bytes($"${args[i].Length}\r\n"));
            ranges[i] = new ArgRange(raw.Count, args[i].Length);
            raw.AddRange(args[i]);
            raw.AddRange("\r\n"u8);
        }

        return ([.. raw], ranges);
    }

    /// <summary>One whole reply as JSON: a set is an array, a map an object, an error a string with its <c>-</c>.</summary>
    public static JsonNode ToJson(string reply)
    {
        var at = 0;
        var node = Read(reply, ref at);
        return at == reply.Length ? node! : throw new FormatException($"{reply.Length - at} bytes behind the reply");
    }

    private static JsonNode? Read(string reply, ref int at)
    {
        var end = reply.IndexOf("\r\n", at, StringComparison.Ordinal);
        var (type, line) = (reply[at], reply[(at + 1)..end]);
        at = end + 2;
        switch (type)
        {
            case '+':
                return line;
            case '-':
                return "-" + line;
            case ':':
                return long.Parse(line, CultureInfo.InvariantCulture);
            case '_' when line.Length == 0:
            case '$' or '*' when line == "-1":
                return null;
        }

        var count = int.Parse(line, CultureInfo.InvariantCulture);
        switch (type)
        {
            case '$' or '=':
                at += count + 2;
                var text = reply[(at - count - 2)..(at - 2)];
                return reply[(at - 2)..at] == "\r\n" ? text : throw new FormatException("a bulk does not end");
            case '*' or '~':
                var array = new JsonArray();
                for (var i = 0; i < count; i++)
                {
                    array.Add(Read(reply, ref at));
                }

                return array;
            case '%':
                var map = new JsonObject();
                for (var i = 0; i < count; i++)
                {
                    var name = Read(reply, ref at)!.ToString();
                    map.Add(name, Read(reply, ref at));
                }

                return map;
            default:
                throw new FormatException($"type {type}");
        }
    }
}

/// <summary>Runs commands the way a session does, against fakes: resolve, check, run, by the row's kind.</summary>
internal sealed class CommandRunner(int protocol = 2)
{
    private const int ValueBytesMax = 1024 * 1024;

    public FakeKeyspace Store => Node.Keyspace;

    public FakeNode Node { get; } = new();

    public FakeClient Client { get; init; } = new();

    public CommandTable Table { get; init; } = CommandTable.Default;

    public int Hits { get; private set; }

    public int Misses { get; private set; }

    /// <summary>How often a streaming command handed over what it had written.</summary>
    public int Drains { get; private set; }

    /// <summary>Most bytes a streaming command ever had gathered when it handed over.</summary>
    public int GatheredMax { get; private set; }

    /// <summary>Runs a command of words without blanks; <c>""</c> is the empty word.</summary>
    public string Run(string line)
    {
        var words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        return Run([.. words.Select(word => Wire.Bytes(word == "\"\"" ? "" : word))]);
    }

    public string Run(params byte[][] args)
    {
        using var reply = new RespWriter(protocol);
        using var sent = new MemoryStream();
        RunInto(args, reply, sent);
        sent.Write(reply.Written);
        return Wire.Text(sent.ToArray());
    }

    private void RunInto(byte[][] words, RespWriter reply, MemoryStream sent)
    {
        var (raw, ranges) = Wire.Encode(words);
        var args = new CommandArgs(raw, ranges);
        switch (Table.Admit(args, reply, ValueBytesMax))
        {
            case null:
                break;
            case ReadCommand command:
                var read = new ReadContext(args, Store, reply);
                command.Run(ref read);
                Hits += read.Hits;
                Misses += read.Misses;
                break;
            case WriteCommand command:
                var write = new WriteContext(args, Store, reply, nowMs: 1_700_000_000_000);
                command.Run(ref write);
                break;
            case LocalCommand command:
                // HELLO changes the protocol of its own reply.
                var local = new LocalContext(args, reply, Node, new ProtocolSwitch(Client, reply));
                command.Run(ref local);
                break;
            case AdminCommand command:
                command.Run(new AdminContext(words, reply, Node)).AsTask().GetAwaiter().GetResult();
                break;
            case StreamCommand command:
                var stream = new StreamContext(words, Store, reply, () => Drain(reply, sent));
                command.Run(stream).AsTask().GetAwaiter().GetResult();
                break;
            case var other:
                throw new InvalidOperationException($"{other.Name} is of no kind that runs");
        }
    }

    private ValueTask Drain(RespWriter reply, MemoryStream sent)
    {
        Drains++;
        GatheredMax = Math.Max(GatheredMax, reply.Length);
        sent.Write(reply.Written);
        reply.Reset();
        return ValueTask.CompletedTask;
    }

    private sealed class ProtocolSwitch(FakeClient client, RespWriter reply) : IClientControl
    {
        public ClientInfo Info => client.Info;

        public void SetProtocol(int version)
        {
            client.SetProtocol(version);
            reply.Protocol = version;
        }

        public void SetReadOnly(bool readOnly) => client.SetReadOnly(readOnly);

        public void CloseAfterReply() => client.CloseAfterReply();
    }
}
