using System.Buffers;
using System.Globalization;
using System.Text;
using KvNode.Server.Resp;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>Error replies that quote what the client sent, in the words of Redis 7.0.</summary>
internal static class CommandErrors
{
    private const int QuotedBytesMax = 128;

    private static readonly SearchValues<byte> LineBreaks = SearchValues.Create("\r\n"u8);

    public static ReadOnlySpan<byte> Syntax => "ERR syntax error"u8;

    public static ReadOnlySpan<byte> NotAnInteger => "ERR value is not an integer or out of range"u8;

    public static ReadOnlySpan<byte> WrongType =>
        "WRONGTYPE Operation against a key holding the wrong kind of value"u8;

    /// <summary><c>ERR unknown command 'x', with args beginning with: 'a' 'b' </c>, both cut at 128 bytes.</summary>
    public static void UnknownCommand(RespWriter reply, CommandArgs args)
    {
        var text = new ArrayBufferWriter<byte>();
        text.Write("ERR unknown command '"u8);
        text.Write(Cut(args[0], QuotedBytesMax));
        text.Write("', with args beginning with: "u8);
        var quoted = 0;
        for (var i = 1; i < args.Count && quoted < QuotedBytesMax; i++)
        {
            var argument = Cut(args[i], QuotedBytesMax - quoted);
            text.Write("'"u8);
            text.Write(argument);
            text.Write("' "u8);
            quoted += argument.Length + 3;
        }

        Write(reply, text.WrittenSpan);
    }

    public static void UnknownSubcommand(RespWriter reply, CommandSpec container, ReadOnlySpan<byte> word)
    {
        var text = new ArrayBufferWriter<byte>();
        text.Write("ERR unknown subcommand '"u8);
        text.Write(Cut(word, QuotedBytesMax));
        text.Write("'. Try "u8);
        text.Write(Encoding.ASCII.GetBytes(container.Name));
        text.Write(" HELP."u8);
        Write(reply, text.WrittenSpan);
    }

    public static void WrongArity(RespWriter reply, CommandSpec spec) =>
        Write(reply, $"ERR wrong number of arguments for '{spec.DisplayName}' command");

    public static void KeyTooLong(RespWriter reply) =>
        Write(reply, string.Create(CultureInfo.InvariantCulture, $"ERR key is longer than {StoreLimits.KeyBytesMax} bytes"));

    public static void ValueTooLong(RespWriter reply, int bytesMax) =>
        Write(reply, string.Create(CultureInfo.InvariantCulture, $"ERR value is longer than {bytesMax} bytes"));

    /// <summary>Writes an error whose text may hold line breaks; they become spaces, as in Redis.</summary>
    public static void Write(RespWriter reply, string text) => Write(reply, Encoding.UTF8.GetBytes(text));

    /// <inheritdoc cref="Write(RespWriter, string)"/>
    public static void Write(RespWriter reply, ReadOnlySpan<byte> text)
    {
        var line = text.ToArray();
        line.AsSpan().ReplaceAny(LineBreaks, (byte)' ');
        reply.Error(line);
    }

    /// <summary>The beginning of what was sent; Redis prints it as a C string, so a NUL ends it.</summary>
    private static ReadOnlySpan<byte> Cut(ReadOnlySpan<byte> text, int bytesMax)
    {
        var end = text.IndexOf((byte)0);
        return text[..Math.Min(end < 0 ? text.Length : end, bytesMax)];
    }
}
