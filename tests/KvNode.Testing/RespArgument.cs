using System.Globalization;
using System.Text;

namespace KvNode.Testing;

/// <summary>One argument of a command: text (sent as UTF-8), a number, or bytes as they are.</summary>
public readonly struct RespArgument
{
    private readonly byte[]? _bytes;

    private RespArgument(byte[] bytes) => _bytes = bytes;

    public ReadOnlySpan<byte> Span => _bytes;

    public static implicit operator RespArgument(string text) => new(Encoding.UTF8.GetBytes(text));

    public static implicit operator RespArgument(byte[] bytes) => new(bytes);

    public static implicit operator RespArgument(long number) =>
        new(Encoding.ASCII.GetBytes(number.ToString(CultureInfo.InvariantCulture)));
}
