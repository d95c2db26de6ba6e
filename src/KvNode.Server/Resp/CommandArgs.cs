namespace KvNode.Server.Resp;

/// <summary>The place of one argument inside the raw bytes of a command.</summary>
internal readonly record struct ArgRange(int Offset, int Length);

/// <summary>
/// One command: its raw RESP (always the multibulk form; inline commands are rewritten) and where each argument lies.
/// Valid until the reader that made it reads again.
/// </summary>
internal readonly ref struct CommandArgs(ReadOnlySpan<byte> raw, ReadOnlySpan<ArgRange> ranges)
{
    private readonly ReadOnlySpan<ArgRange> _ranges = ranges;

    /// <summary>The whole command as <c>*N\r\n$len\r\n...</c>: what goes into the log.</summary>
    public ReadOnlySpan<byte> Raw { get; } = raw;

    /// <summary>Number of arguments, the command's name included.</summary>
    public int Count => _ranges.Length;

    /// <summary>Argument <paramref name="index"/>; 0 is the command's name as the client typed it.</summary>
    public ReadOnlySpan<byte> this[int index]
    {
        get
        {
            var range = _ranges[index];
            return Raw.Slice(range.Offset, range.Length);
        }
    }

    /// <summary>Reads argument <paramref name="index"/> as Redis reads integers; see <see cref="RespNumber"/>.</summary>
    public bool TryGetInt64(int index, out long value) => RespNumber.TryParse(this[index], out value);
}
