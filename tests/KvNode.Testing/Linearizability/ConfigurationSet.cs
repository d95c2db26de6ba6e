namespace KvNode.Testing.Linearizability;

/// <summary>
/// The configurations a search has been in: pairs of 64-bit hashes, one of the set of operations done and one of the
/// state. Open addressing, 16 bytes a place.
/// </summary>
/// <remarks>
/// Only the hashes are kept. Two different configurations of one search share both with a probability of about
/// n^2 / 2^129: for ten million configurations less than one in 10^24 searches. Such a pair would hide a branch.
/// </remarks>
internal sealed class ConfigurationSet
{
    private const int PlacesMin = 64;

    private (ulong Operations, ulong State)[] _places = new (ulong, ulong)[PlacesMin];

    public int Count { get; private set; }

    /// <summary>False when it was there already.</summary>
    public bool Add(ulong operations, ulong state)
    {
        if (Count * 4L > _places.Length * 3L)
        {
            Grow();
        }

        // (0, 0) marks a free place.
        operations |= state == 0 && operations == 0 ? 1UL : 0UL;
        if (!Insert(_places, operations, state))
        {
            return false;
        }

        Count++;
        return true;
    }

    private void Grow()
    {
        var places = new (ulong, ulong)[_places.Length * 2];
        foreach (var (operations, state) in _places)
        {
            if (operations != 0 || state != 0)
            {
                _ = Insert(places, operations, state);
            }
        }

        _places = places;
    }

    private static bool Insert((ulong Operations, ulong State)[] places, ulong operations, ulong state)
    {
        var mask = places.Length - 1;
        for (var at = (int)(operations ^ (state * 0x9e3779b97f4a7c15)) & mask; ; at = (at + 1) & mask)
        {
            if (places[at] is (0, 0))
            {
                places[at] = (operations, state);
                return true;
            }

            if (places[at] == (operations, state))
            {
                return false;
            }
        }
    }
}
