namespace KvNode.Server.Resp;

/// <summary>What one client may send. All sizes in bytes.</summary>
/// <remarks>
/// Two kinds. Beyond the protocol's own limits (<see cref="BulkBytesMax"/>, <see cref="ArgumentsMax"/>,
/// <see cref="LineBytesMax"/>) the stream makes no sense any more and the connection ends. Beyond this node's limits
/// (<see cref="ValueBytesMax"/>, <see cref="CommandBytesMax"/>) one command is refused and the connection goes on.
/// </remarks>
internal sealed record RespLimits
{
    /// <summary>Room that a command needs around its largest value: name, key, options, lengths.</summary>
    private const int CommandBytesAroundValue = 1024 * 1024;

    private readonly int _commandBytesMax = 256 * 1024 * 1024;

    public static RespLimits Default { get; } = new();

    /// <summary>Redis's proto-max-bulk-len: a longer declared bulk is a protocol error.</summary>
    public int BulkBytesMax { get; init; } = 512 * 1024 * 1024;

    /// <summary>More declared arguments are a protocol error. (Redis 7 allows 2^31-1, Redis before 7 this number.)</summary>
    public int ArgumentsMax { get; init; } = 1024 * 1024;

    /// <summary>Redis's PROTO_INLINE_MAX_SIZE: an inline command, or a line with a length, without its line end.</summary>
    public int LineBytesMax { get; init; } = 64 * 1024;

    /// <summary>Longest single argument; <c>--max-value</c>.</summary>
    public int ValueBytesMax { get; init; } = 64 * 1024 * 1024;

    /// <summary>Longest command as RESP; never less than a value of <see cref="ValueBytesMax"/> needs.</summary>
    public int CommandBytesMax
    {
        get => Math.Max(_commandBytesMax, Math.Min(ValueBytesMax, int.MaxValue - CommandBytesAroundValue) + CommandBytesAroundValue);
        init => _commandBytesMax = value;
    }

    /// <summary>The reply to a command with too long an argument.</summary>
    public byte[] ValueTooLargeText() => RespError.Compose(
        "ERR value is larger than the allowed maximum ("u8, ValueBytesMax, " bytes)"u8);

    /// <summary>The reply to a command that is too long as a whole.</summary>
    public byte[] CommandTooLargeText() => RespError.Compose(
        "ERR command is larger than the allowed maximum ("u8, CommandBytesMax, " bytes)"u8);
}
