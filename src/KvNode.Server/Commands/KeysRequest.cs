using System.Buffers.Text;
using System.Text;
using KvNode.Storage;

namespace KvNode.Server.Commands;

/// <summary>
/// What a KEYS command asks for. Fed word by word, because the words live in a span before the command is admitted and
/// in copies while it runs.
/// </summary>
/// <remarks><c>*( PIVOT key / LIMIT n / DESC / WITHVALUES )</c>, in any case and order; the last one wins.</remarks>
internal struct KeysRequest
{
    private Operand _awaited;

    public KeysRequest()
    {
    }

    /// <summary>Which argument is the pivot; 0 for none.</summary>
    public int PivotAt { get; private set; }

    /// <summary>Most keys to answer.</summary>
    public long Limit { get; private set; } = long.MaxValue;

    public bool Descending { get; private set; }

    public bool WithValues { get; private set; }

    /// <summary>No option still lacks its operand.</summary>
    public readonly bool IsComplete => _awaited == Operand.None;

    /// <summary>Takes the next word behind the pattern; false when it has no place there.</summary>
    /// <param name="at">The word's position among the arguments.</param>
    public bool Accept(ReadOnlySpan<byte> word, int at)
    {
        switch (_awaited)
        {
            case Operand.Pivot:
                PivotAt = at;
                _awaited = Operand.None;
                return true;
            case Operand.Limit:
                _awaited = Operand.None;
                return TryReadLimit(word);
            default:
                return AcceptOption(word);
        }
    }

    /// <summary>
    /// The part of the pattern's range on the far side of the pivot, which is left out in both directions.
    /// False when nothing can be there.
    /// </summary>
    public static bool TryNarrow(
        KeyRange whole, ReadOnlySpan<byte> pivot, bool hasPivot, bool descending, out KeyRange range)
    {
        var start = whole.Start;
        var end = whole.End;
        var startExclusive = false;
        var hasEnd = whole.HasEnd;
        if (hasPivot && !descending && pivot.SequenceCompareTo(start) >= 0)
        {
            start = pivot;
            startExclusive = true;
        }

        if (hasPivot && descending && (!hasEnd || pivot.SequenceCompareTo(end) < 0))
        {
            end = pivot;
            hasEnd = true;
        }

        range = new KeyRange
        {
            Start = start,
            StartExclusive = startExclusive,
            End = end,
            HasEnd = hasEnd,
            Descending = descending,
        };
        return !hasEnd || start.SequenceCompareTo(end) < 0;
    }

    private bool AcceptOption(ReadOnlySpan<byte> word)
    {
        if (Ascii.EqualsIgnoreCase(word, "PIVOT"u8))
        {
            _awaited = Operand.Pivot;
        }
        else if (Ascii.EqualsIgnoreCase(word, "LIMIT"u8))
        {
            _awaited = Operand.Limit;
        }
        else if (Ascii.EqualsIgnoreCase(word, "DESC"u8))
        {
            Descending = true;
        }
        else if (Ascii.EqualsIgnoreCase(word, "WITHVALUES"u8))
        {
            WithValues = true;
        }
        else
        {
            return false;
        }

        return true;
    }

    /// <summary>A whole number in base 10 from 0 to the greatest of 64 bits.</summary>
    private bool TryReadLimit(ReadOnlySpan<byte> word)
    {
        if (!Utf8Parser.TryParse(word, out long limit, out var consumed) || consumed != word.Length || limit < 0)
        {
            return false;
        }

        Limit = limit;
        return true;
    }

    private enum Operand
    {
        None,
        Pivot,
        Limit,
    }
}
